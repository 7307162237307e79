// Package ifc evaluates initial filter criteria (TS 29.228 annex B, F; TS 24.229 5.4.3.2, 5.4.3.3): which application
// servers a request visits. It is pure: values in, values out. A criterion that cannot be understood is skipped and
// reported, and the others go on.
package ifc

import (
	"errors"
	"slices"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// ErrInvalid is wrapped by every error of this package.
var ErrInvalid = errors.New("invalid filter criterion")

// Criterion is one InitialFilterCriteria element. Make it with Parse functions of this package: conditions hold
// compiled expressions. It does not change afterwards and may be shared.
type Criterion struct {
	Priority int      // lower ones are looked at first
	Part     Part     // in which registration state of the user it counts
	Trigger  *Trigger // nil: every request matches
	Server   Server
}

// Part is the ProfilePartIndicator.
type Part uint8

// The parts of a profile.
const (
	Both Part = iota
	RegisteredPart
	UnregisteredPart
)

// Server is the application server of a criterion.
type Server struct {
	Name        string // a URI as in the document; whether it can be reached is for the user of the criterion to find out
	Terminate   bool   // DefaultHandling: SESSION_TERMINATED rather than SESSION_CONTINUED when the server fails
	ServiceInfo string // goes into a third-party REGISTER; "" is none
	Request     bool   // IncludeRegisterRequest
	Response    bool   // IncludeRegisterResponse
}

// Trigger is a TriggerPoint. With CNF the groups are ANDed and the conditions within one ORed, without it the other
// way round (ConditionTypeCNF 1 and 0).
type Trigger struct {
	CNF        bool
	Conditions []Condition
	groups     [][]int // indexes of the conditions of each group
}

// SessionCase is how the S-CSCF came to serve a request (TS 29.228 annex B.2.3, tSessionCase).
type SessionCase uint8

// Session cases, numbered as in documents.
const (
	Originating SessionCase = iota
	Terminating
	TerminatingUnregistered
	OriginatingUnregistered
	OriginatingCDIV // for the user who diverts
)

// RegistrationType is what a REGISTER does (tRegistrationType), numbered as in documents.
type RegistrationType uint8

// Registration types.
const (
	InitialRegistration RegistrationType = iota
	Reregistration
	Deregistration
)

// Query is what criteria are matched against.
type Query struct {
	Msg          *sip.Message
	Case         SessionCase
	Registered   bool             // state of the served user
	Registration RegistrationType // of a REGISTER
}

// Matches tells whether the criterion selects the request.
func (c *Criterion) Matches(q *Query) bool {
	if c.Part == RegisteredPart && !q.Registered || c.Part == UnregisteredPart && q.Registered {
		return false
	}
	return c.Trigger == nil || c.Trigger.matches(q)
}

func (t *Trigger) matches(q *Query) bool {
	for _, group := range t.groups {
		// In a disjunction one true condition decides, in a conjunction one false.
		holds := slices.ContainsFunc(group, func(i int) bool { return t.Conditions[i].holds(q) == t.CNF }) == t.CNF
		if holds != t.CNF {
			return holds
		}
	}
	return t.CNF
}

// Next finds the first criterion from an index on that selects the request; -1 when none does.
func Next(criteria []Criterion, from int, q *Query) int {
	for i := from; i < len(criteria); i++ {
		if criteria[i].Matches(q) {
			return i
		}
	}
	return -1
}

// Sort orders criteria by ascending priority and keeps the order of the document among equals.
func Sort(criteria []Criterion) {
	slices.SortStableFunc(criteria, func(a, b Criterion) int { return a.Priority - b.Priority })
}
