// Package registrations is registration state as the other roles use it: one record per implicit registration set
// and site, changed by Apply in one compare-and-swap. It holds the wire types, the pure rules of a change (Change,
// Settled), the client of the store and an in-memory double. It keeps nothing on disk: that is the store's part.
package registrations

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
)

// ErrInvalid is a request that cannot be applied to any record: no address of record, a binding without id.
var ErrInvalid = errors.New("invalid registration request")

// Reasons of a deregistration, as the HSS is told them (TS 29.228 Server-Assignment-Type).
const (
	ReasonUser    = "dereg-user"
	ReasonAdmin   = "dereg-admin"
	ReasonTimeout = "dereg-timeout"
)

// nonceSlack keeps a consumed nonce a little longer than the router honours it, so that clocks of two nodes that
// differ by less than this open no window for a replay.
const nonceSlack = 10 * time.Second

// Change is what one request does to a record, without any side effect: rec is left alone, and the record to store
// is in the response. rec may be nil (the set has no row). With an outcome other than OUTCOME_DONE the stored record
// must stay as it is; the response then shows it without its lapsed bindings.
//
// Order: lapsed bindings go; the nonce is checked; then the order of the request (RFC 3261 10.3 step 7); then
// bindings are removed and added. When the last binding of the set goes, the deregistration that the HSS is owed is
// written into the record; bindings that come (back) cancel what is owed for their private identities. So are the
// deregistrations and NOTIFYs that application servers and subscribers are owed.
func Change(rec *Record, req *ApplyRequest, now time.Time) (*ApplyResponse, error) {
	return Alter(copied(rec), req, now)
}

// copied is a record that Alter may have. Bindings are shared: Alter replaces them and never changes one.
func copied(rec *Record) *Record {
	switch {
	case rec == nil:
		return nil
	case len(rec.GetSubscriptions()) > 0 || len(rec.GetOwed()) > 0 || len(rec.ProtoReflect().GetUnknown()) > 0:
		whole, _ := proto.Clone(rec).(*Record)
		return whole
	}
	c := &Record{
		Aor: rec.GetAor(), Bindings: slices.Clone(rec.GetBindings()), Associated: rec.GetAssociated(), ServerName: rec.GetServerName(),
		Writer: rec.GetWriter(), AssignedAt: rec.GetAssignedAt(), UnregisteredService: rec.GetUnregisteredService(),
		Announced: slices.Clone(rec.GetAnnounced()),
		Nonces:    make([]*UsedNonce, len(rec.GetNonces()), len(rec.GetNonces())+1),
	}
	for i, n := range rec.GetNonces() {
		c.Nonces[i] = &UsedNonce{Id: n.GetId(), Nc: n.GetNc(), ExpiresAt: n.GetExpiresAt()}
	}
	return c
}

// Alter is Change for a caller that gives rec away: it becomes the record of the response, whatever the outcome.
func Alter(rec *Record, req *ApplyRequest, now time.Time) (*ApplyResponse, error) {
	if err := check(rec, req); err != nil {
		return nil, err
	}
	if rec == nil {
		rec = &Record{}
	}
	c := newChange(rec, req, now)
	switch {
	case !c.consumeNonce():
		return c.refused(OutcomeNonceUsed), nil
	case c.outOfOrder(), c.lateSubscribe():
		return c.refused(OutcomeOutOfOrder), nil
	}
	c.remove()
	c.merge()
	c.describe()
	c.owe()
	c.cancel()
	c.announce()
	c.notify()
	return c.resp, nil
}

// Short names of the outcomes, which protoc prefixes with the name of their enum.
const (
	OutcomeDone       = Outcome_OUTCOME_DONE
	OutcomeNonceUsed  = Outcome_OUTCOME_NONCE_USED
	OutcomeOutOfOrder = Outcome_OUTCOME_OUT_OF_ORDER
)

func check(rec *Record, req *ApplyRequest) error {
	if req.GetAor() == "" {
		return fmt.Errorf("%w: no address of record", ErrInvalid)
	}
	if rec.GetAor() != "" && rec.GetAor() != req.GetAor() {
		return fmt.Errorf("%w: record of %q, request for %q", ErrInvalid, rec.GetAor(), req.GetAor())
	}
	seen := make(map[string]bool, len(req.GetBindings()))
	for _, b := range req.GetBindings() {
		if b.GetId() == "" || seen[b.GetId()] {
			return fmt.Errorf("%w: binding ids must be there and differ, got %q", ErrInvalid, b.GetId())
		}
		seen[b.GetId()] = true
	}
	if n := req.GetNonce(); n != nil && len(n.GetId()) == 0 {
		return fmt.Errorf("%w: nonce without id", ErrInvalid)
	}
	return nil
}

// change is the state of one Change while it is worked out.
type change struct {
	req   *ApplyRequest
	now   time.Time
	rec   *Record
	resp  *ApplyResponse
	gone  map[string]string // private identity -> reason, of bindings that went
	empty bool              // no binding at the start

	// For subscribers; kept only when there are any.
	before     []*Binding // at the start
	identities []string   // at the start
}

func newChange(rec *Record, req *ApplyRequest, now time.Time) *change {
	rec.Aor = req.GetAor()
	c := &change{req: req, now: now, rec: rec, gone: map[string]string{}, empty: len(rec.GetBindings()) == 0}
	c.resp = &ApplyResponse{Record: rec}
	if len(rec.GetSubscriptions()) > 0 || req.GetSubscribe() != nil {
		c.before, c.identities = slices.Clone(rec.GetBindings()), slices.Clone(rec.GetAssociated())
	}
	c.rec.Bindings = slices.DeleteFunc(c.rec.Bindings, func(b *Binding) bool {
		if !Lapsed(b, now) {
			return false
		}
		c.resp.Lapsed = append(c.resp.Lapsed, b.GetId())
		c.lost(b, ReasonTimeout)
		return true
	})
	c.rec.Nonces = slices.DeleteFunc(c.rec.Nonces, func(n *UsedNonce) bool { return forgotten(n.GetExpiresAt(), now) })
	c.resp.WasRegistered = len(c.rec.Bindings) > 0
	return c
}

// lost notes that a binding has gone. The HSS does not know of emergency registrations.
func (c *change) lost(b *Binding, reason string) {
	if !b.GetEmergency() {
		c.gone[b.GetImpi()] = reason
	}
}

// refused answers a request that changes nothing.
func (c *change) refused(o Outcome) *ApplyResponse {
	c.describe()
	return &ApplyResponse{Outcome: o, Record: c.rec, WasRegistered: c.resp.WasRegistered, OtherBindings: c.resp.OtherBindings}
}

// consumeNonce marks the challenge of the request as used; false when it was used before or has run out.
func (c *change) consumeNonce() bool {
	use := c.req.GetNonce()
	if use == nil {
		return true
	}
	if forgotten(use.GetExpiresAt(), c.now) {
		return false
	}
	for _, n := range c.rec.Nonces {
		if string(n.GetId()) != string(use.GetId()) {
			continue
		}
		if !use.GetCounting() || use.GetNc() <= n.GetNc() {
			return false
		}
		n.Nc, n.ExpiresAt = use.GetNc(), max(n.GetExpiresAt(), use.GetExpiresAt())
		return true
	}
	c.rec.Nonces = append(c.rec.Nonces, &UsedNonce{Id: use.GetId(), Nc: use.GetNc(), ExpiresAt: use.GetExpiresAt()})
	return true
}

// outOfOrder is RFC 3261 10.3 steps 6 and 7: a binding is not changed by a request of its own Call-ID whose CSeq is
// not higher, and then the whole request fails.
func (c *change) outOfOrder() bool {
	if c.req.GetCallId() == "" {
		return false
	}
	return slices.ContainsFunc(c.rec.Bindings, func(b *Binding) bool {
		return c.touches(b) && b.GetCallId() == c.req.GetCallId() && c.req.GetCseq() <= b.GetCseq()
	})
}

func (c *change) touches(b *Binding) bool {
	return c.removes(b) || slices.ContainsFunc(c.req.GetBindings(), func(n *Binding) bool { return n.GetId() == b.GetId() })
}

// removes tells whether the request asks for the end of b. A binding that comes with its expiry in the past is one
// of RFC 3261 10.2.2, expires=0.
func (c *change) removes(b *Binding) bool {
	if c.req.GetRemoveAll() && (c.req.GetOnlyImpi() == "" || c.req.GetOnlyImpi() == b.GetImpi()) {
		return true
	}
	return slices.Contains(c.req.GetRemove(), b.GetId()) || slices.ContainsFunc(c.req.GetBindings(), func(n *Binding) bool {
		return n.GetId() == b.GetId() && Lapsed(n, c.now)
	})
}

func (c *change) remove() {
	reason := cmp.Or(c.req.GetRemoveReason(), ReasonUser)
	if c.req.GetRemoveAll() && reason == ReasonAdmin {
		for _, n := range c.rec.Nonces { // whom the network deregisters is challenged afresh
			n.Nc = math.MaxUint32
		}
	}
	c.rec.Bindings = slices.DeleteFunc(c.rec.Bindings, func(b *Binding) bool {
		if !c.removes(b) {
			return false
		}
		c.resp.Removed = append(c.resp.Removed, b.GetId())
		c.lost(b, reason)
		return true
	})
}

func (c *change) merge() {
	for _, n := range c.req.GetBindings() {
		if Lapsed(n, c.now) {
			continue
		}
		b, _ := proto.Clone(n).(*Binding)
		at := slices.IndexFunc(c.rec.Bindings, func(old *Binding) bool { return old.GetId() == b.GetId() })
		if at < 0 {
			b.RegisteredAt = c.now.UnixMilli()
			c.rec.Bindings = append(c.rec.Bindings, b)
			c.resp.Created = append(c.resp.Created, b.GetId())
			continue
		}
		b.RegisteredAt = c.rec.Bindings[at].GetRegisteredAt()
		c.rec.Bindings[at] = b
		c.resp.Refreshed = append(c.resp.Refreshed, b.GetId())
	}
	slices.SortFunc(c.rec.Bindings, func(a, b *Binding) int { return cmp.Compare(a.GetId(), b.GetId()) })
}

// describe fills what the request says about the whole set, and the view of other private identities.
func (c *change) describe() {
	c.resp.OtherBindings = slices.ContainsFunc(c.rec.Bindings, func(b *Binding) bool {
		return c.req.GetImpi() != "" && b.GetImpi() != c.req.GetImpi()
	})
	if c.resp.Outcome != OutcomeDone {
		return
	}
	if len(c.req.GetAssociated()) > 0 {
		c.rec.Associated = slices.Clone(c.req.GetAssociated())
	}
	c.rec.ServerName = cmp.Or(c.req.GetServerName(), c.rec.GetServerName())
	registered := len(c.rec.Bindings) > 0
	starts := registered && (c.empty || !c.resp.WasRegistered)
	c.rec.UnregisteredService = !registered && (c.rec.GetUnregisteredService() || c.req.GetUnregisteredService())
	if c.req.GetAssigned() || starts || (c.req.GetUnregisteredService() && !registered) {
		c.rec.AssignedAt = c.now.UnixMilli()
	}
}

// owe writes the deregistration into the record when the last binding has gone: one per private identity that lost
// a binding in this change, at most one of each at any time.
func (c *change) owe() {
	if len(c.rec.Bindings) > 0 {
		return
	}
	impis := make([]string, 0, len(c.gone))
	for impi := range c.gone {
		impis = append(impis, impi)
	}
	slices.Sort(impis)
	for _, impi := range impis {
		if slices.ContainsFunc(c.rec.Owed, func(e *Effect) bool { return deregisters(e, impi) }) {
			continue
		}
		c.rec.Owed = append(c.rec.Owed, &Effect{
			Id: effectID(c.rec.GetAor(), impi, c.now), Kind: EffectKind_EFFECT_HSS_DEREGISTER,
			Reason: c.gone[impi], Impi: impi, Impu: c.rec.GetAor(),
		})
	}
	c.rec.UnregisteredService = c.req.GetUnregisteredService()
}

// cancel drops owed deregistrations of private identities that are registered (again): their registration tells
// the HSS more than the deregistration would.
func (c *change) cancel() {
	c.rec.Owed = slices.DeleteFunc(c.rec.Owed, func(e *Effect) bool {
		return slices.ContainsFunc(c.rec.Bindings, func(b *Binding) bool { return deregisters(e, b.GetImpi()) })
	})
}

func deregisters(e *Effect, impi string) bool {
	return e.GetKind() == EffectKind_EFFECT_HSS_DEREGISTER && e.GetImpi() == impi
}

// effectID is the same whenever the same change is worked out again, and different for every later one.
func effectID(aor, impi string, now time.Time) string {
	sum := sha256.Sum256([]byte(aor + "\x00" + impi + "\x00" + strconv.FormatInt(now.UnixNano(), 10)))
	return hex.EncodeToString(sum[:8])
}

// Settled is rec without the effects of these ids, which have been done. rec is left alone.
func Settled(rec *Record, ids ...string) *Record {
	next, _ := proto.Clone(rec).(*Record)
	next.Owed = slices.DeleteFunc(next.Owed, func(e *Effect) bool { return slices.Contains(ids, e.GetId()) })
	return next
}

// Live is rec as a reader may see it: without lapsed bindings. rec is left alone.
func Live(rec *Record, now time.Time) *Record {
	next, _ := proto.Clone(rec).(*Record)
	next.Bindings = slices.DeleteFunc(next.Bindings, func(b *Binding) bool { return Lapsed(b, now) })
	return next
}

// Lapsed tells whether a binding is over at now.
func Lapsed(b *Binding, now time.Time) bool { return b.GetExpiresAt() <= now.UnixMilli() }

func forgotten(expiresAt int64, now time.Time) bool {
	return expiresAt+nonceSlack.Milliseconds() <= now.UnixMilli()
}

// Due is when the record next needs work: the first lapse of a binding or subscription, or at once while effects are owed or
// rubbish may be dropped. False when it never does: nothing is left in it.
func Due(rec *Record) (at time.Time, ok bool) {
	if len(rec.GetOwed()) > 0 {
		return time.UnixMilli(0), true
	}
	for _, b := range rec.GetBindings() {
		if t := time.UnixMilli(b.GetExpiresAt()); !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	for _, s := range rec.GetSubscriptions() {
		if t := time.UnixMilli(s.GetExpiresAt()); !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	if ok {
		return at, true
	}
	for _, n := range rec.GetNonces() {
		if t := time.UnixMilli(n.GetExpiresAt()).Add(nonceSlack); !ok || t.After(at) {
			at, ok = t, true
		}
	}
	return at, ok
}

// Needless tells whether the record says no more than its absence would, so that its row can be deleted.
func Needless(rec *Record, now time.Time) bool {
	return len(rec.GetBindings()) == 0 && len(rec.GetOwed()) == 0 && !rec.GetUnregisteredService() &&
		!slices.ContainsFunc(rec.GetNonces(), func(n *UsedNonce) bool { return !forgotten(n.GetExpiresAt(), now) })
}
