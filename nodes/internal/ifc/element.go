package ifc

import (
	"encoding/xml"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Element is an InitialFilterCriteria element as text, for documents that hold some; namespaces are ignored. It reads
// every value as text, so that one wrong value costs one criterion and not the document.
type Element struct {
	Priority string          `xml:"Priority"`
	Trigger  *triggerElement `xml:"TriggerPoint"`
	Servers  []serverElement `xml:"ApplicationServer"`
	Part     string          `xml:"ProfilePartIndicator"`
}

type triggerElement struct {
	CNF        string             `xml:"ConditionTypeCNF"`
	Conditions []conditionElement `xml:"SPT"`
}

type conditionElement struct {
	Negated       string   `xml:"ConditionNegated"`
	Groups        []string `xml:"Group"`
	RequestURI    *string  `xml:"RequestURI"`
	Method        *string  `xml:"Method"`
	Header        *pair    `xml:"SIPHeader"`
	Case          *string  `xml:"SessionCase"`
	Description   *pair    `xml:"SessionDescription"`
	Registrations []string `xml:"Extension>RegistrationType"`
}

type pair struct {
	Header  string  `xml:"Header"`
	Line    string  `xml:"Line"`
	Content *string `xml:"Content"`
}

type serverElement struct {
	Name      string     `xml:"ServerName"`
	Handling  string     `xml:"DefaultHandling"`
	Info      string     `xml:"ServiceInfo"`
	Requests  []struct{} `xml:"Extension>IncludeRegisterRequest"`
	Responses []struct{} `xml:"Extension>IncludeRegisterResponse"`
}

// Criterion understands the element.
func (e *Element) Criterion() (Criterion, error) {
	c := Criterion{}
	priority, err := number(e.Priority, "0", 1<<31-1, "Priority")
	if err != nil {
		return c, err
	}
	c.Priority = priority
	if len(e.Servers) != 1 || strings.TrimSpace(e.Servers[0].Name) == "" {
		return c, invalid("one ApplicationServer with a ServerName is needed")
	}
	s := &e.Servers[0]
	handling, err := number(s.Handling, "0", 1, "DefaultHandling")
	if err != nil {
		return c, err
	}
	c.Server = Server{
		Name: strings.TrimSpace(s.Name), Terminate: handling == 1, ServiceInfo: s.Info,
		Request: len(s.Requests) > 0, Response: len(s.Responses) > 0,
	}
	if strings.TrimSpace(e.Part) != "" {
		part, err := number(e.Part, "", 1, "ProfilePartIndicator")
		if err != nil {
			return c, err
		}
		c.Part = RegisteredPart + Part(part)
	}
	if e.Trigger != nil {
		c.Trigger, err = e.Trigger.trigger()
	}
	return c, err
}

func (e *triggerElement) trigger() (*Trigger, error) {
	cnf, err := boolean(e.CNF, "", "ConditionTypeCNF")
	if err != nil {
		return nil, err
	}
	if len(e.Conditions) == 0 {
		return nil, invalid("a TriggerPoint needs an SPT")
	}
	t := &Trigger{CNF: cnf}
	for i := range e.Conditions {
		c, err := e.Conditions[i].condition()
		if err != nil {
			return nil, err
		}
		t.Conditions = append(t.Conditions, c)
	}
	t.group()
	return t, nil
}

// group lists the conditions of each group.
func (t *Trigger) group() {
	members := map[int][]int{}
	for i, c := range t.Conditions {
		for _, g := range c.Groups {
			members[g] = append(members[g], i)
		}
	}
	for _, g := range slices.Sorted(maps.Keys(members)) {
		t.groups = append(t.groups, members[g])
	}
}

func (e *conditionElement) condition() (Condition, error) {
	c := Condition{}
	var err error
	if c.Negated, err = boolean(e.Negated, "0", "ConditionNegated"); err != nil {
		return c, err
	}
	if len(e.Groups) == 0 {
		return c, invalid("an SPT needs a Group")
	}
	for _, text := range e.Groups {
		g, err := number(text, "", 1<<31-1, "Group")
		if err != nil {
			return c, err
		}
		c.Groups = append(c.Groups, g)
	}
	slices.Sort(c.Groups)
	c.Groups = slices.Compact(c.Groups)
	if err := e.kind(&c); err != nil {
		return c, err
	}
	return c, c.compile()
}

// kind reads the one element that tells what the condition looks at.
func (e *conditionElement) kind(c *Condition) error {
	kinds := 0
	if e.RequestURI != nil {
		kinds++
		c.Kind, c.Text = RequestURI, *e.RequestURI
	}
	if e.Header != nil {
		kinds++
		c.Kind, c.Text, c.Content = Header, e.Header.Header, e.Header.Content
	}
	if e.Description != nil {
		kinds++
		c.Kind, c.Text, c.Content = SessionDescription, e.Description.Line, e.Description.Content
	}
	if e.Case != nil {
		kinds++
		n, err := number(*e.Case, "", int(OriginatingCDIV), "SessionCase")
		if err != nil {
			return err
		}
		c.Kind, c.Case = CaseOfSession, SessionCase(n)
	}
	if e.Method != nil {
		kinds++
		if err := e.method(c); err != nil {
			return err
		}
	}
	if kinds != 1 {
		return invalid("an SPT needs exactly one of RequestURI, Method, SIPHeader, SessionCase and SessionDescription")
	}
	return nil
}

func (e *conditionElement) method(c *Condition) error {
	c.Kind, c.Text = Method, strings.TrimSpace(*e.Method)
	if c.Text == "" {
		return invalid("Method is empty")
	}
	for _, text := range e.Registrations {
		n, err := number(text, "", int(Deregistration), "RegistrationType")
		if err != nil {
			return err
		}
		c.Registrations = append(c.Registrations, RegistrationType(n))
	}
	slices.Sort(c.Registrations)
	c.Registrations = slices.Compact(c.Registrations)
	return nil
}

// number reads a whole number from 0 to high; text that is missing counts as missing, unless that is "".
func number(text, missing string, high int, what string) (int, error) {
	if text = strings.TrimSpace(text); text == "" {
		text = missing
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || int(n) > high {
		return 0, invalid("%s is %.20q, allowed is a whole number from 0 to %d", what, text, high)
	}
	return int(n), nil
}

func boolean(text, missing, what string) (bool, error) {
	if text = strings.TrimSpace(text); text == "" {
		text = missing
	}
	switch text {
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	}
	return false, invalid("%s is %.20q, allowed are 0, 1, false and true", what, text)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// XML prints the criterion as an InitialFilterCriteria element that reads back equal.
func (c *Criterion) XML() string {
	var b strings.Builder
	put := func(name, value string) {
		b.WriteString("<" + name + ">")
		_ = xml.EscapeText(&b, []byte(value)) // a Builder takes everything
		b.WriteString("</" + name + ">")
	}
	flag := func(name string, on bool) { put(name, map[bool]string{false: "0", true: "1"}[on]) }
	b.WriteString("<InitialFilterCriteria>")
	put("Priority", strconv.Itoa(c.Priority))
	if t := c.Trigger; t != nil {
		b.WriteString("<TriggerPoint>")
		flag("ConditionTypeCNF", t.CNF)
		for i := range t.Conditions {
			t.Conditions[i].write(&b, put, flag)
		}
		b.WriteString("</TriggerPoint>")
	}
	b.WriteString("<ApplicationServer>")
	put("ServerName", c.Server.Name)
	flag("DefaultHandling", c.Server.Terminate)
	put("ServiceInfo", c.Server.ServiceInfo)
	b.WriteString("<Extension>")
	if c.Server.Request {
		b.WriteString("<IncludeRegisterRequest/>")
	}
	if c.Server.Response {
		b.WriteString("<IncludeRegisterResponse/>")
	}
	b.WriteString("</Extension></ApplicationServer>")
	if c.Part != Both {
		flag("ProfilePartIndicator", c.Part == UnregisteredPart)
	}
	b.WriteString("</InitialFilterCriteria>")
	return b.String()
}

func (c *Condition) write(b *strings.Builder, put func(name, value string), flag func(name string, on bool)) {
	b.WriteString("<SPT>")
	flag("ConditionNegated", c.Negated)
	for _, g := range c.Groups {
		put("Group", strconv.Itoa(g))
	}
	two := func(outer, inner string) {
		b.WriteString("<" + outer + ">")
		put(inner, c.Text)
		if c.Content != nil {
			put("Content", *c.Content)
		}
		b.WriteString("</" + outer + ">")
	}
	switch c.Kind {
	case Method:
		put("Method", c.Text)
		b.WriteString("<Extension>")
		for _, r := range c.Registrations {
			put("RegistrationType", strconv.Itoa(int(r)))
		}
		b.WriteString("</Extension>")
	case RequestURI:
		put("RequestURI", c.Text)
	case CaseOfSession:
		put("SessionCase", strconv.Itoa(int(c.Case)))
	case Header:
		two("SIPHeader", "Header")
	case SessionDescription:
		two("SessionDescription", "Line")
	}
	b.WriteString("</SPT>")
}
