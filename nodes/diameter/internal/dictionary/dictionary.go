// Package dictionary knows the commands and AVPs of the applications that we speak, from XML files in go-diameter's
// form: base.xml (RFC 6733), cx.xml (TS 29.229), sh.xml (TS 29.329). It validates requests of peers. What is on the
// hot path reads messages with package wire instead.
package dictionary

import (
	"bytes"
	"embed"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/fiorix/go-diameter/v4/diam/datatype"
	"github.com/fiorix/go-diameter/v4/diam/dict"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
)

//go:embed *.xml
var files embed.FS

// Dictionary is read only.
type Dictionary struct {
	Parser *dict.Parser // for go-diameter's own functions
	rules  map[command]*rules
}

type command struct {
	application, code uint32
	request           bool
}

// rules is what a command demands, by attribute.
type rules struct {
	name    string
	allowed map[wire.Attribute]rule
	needed  []wire.Attribute
}

type rule struct {
	name string
	most int // 0: any number
}

// Load reads the dictionary.
func Load() (*Dictionary, error) {
	p, err := dict.NewParser()
	if err != nil {
		return nil, fmt.Errorf("making a dictionary: %w", err)
	}
	d := &Dictionary{Parser: p, rules: map[command]*rules{}}
	for _, name := range []string{"base.xml", "cx.xml", "sh.xml"} {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading the dictionary: %w", err)
		}
		if err := p.Load(bytes.NewReader(text)); err != nil {
			return nil, fmt.Errorf("reading the dictionary %s: %w", name, err)
		}
	}
	for _, app := range p.Apps() {
		for _, c := range app.Command {
			for request, list := range map[bool][]*dict.Rule{true: c.Request.Rule, false: c.Answer.Rule} {
				r, err := d.compile(app.ID, list)
				if err != nil {
					return nil, fmt.Errorf("the dictionary's command %s: %w", c.Name, err)
				}
				r.name = c.Name
				d.rules[command{app.ID, c.Code, request}] = r
			}
		}
	}
	return d, nil
}

func (d *Dictionary) compile(application uint32, list []*dict.Rule) (*rules, error) {
	r := &rules{allowed: map[wire.Attribute]rule{}}
	for _, one := range list {
		avp, err := d.Parser.FindAVP(application, one.AVP)
		if err != nil {
			return nil, fmt.Errorf("it names %s: %w", one.AVP, err)
		}
		a := wire.Kind(avp.Code, avp.VendorID)
		r.allowed[a] = rule{name: one.AVP, most: one.Max}
		if one.Required {
			r.needed = append(r.needed, a)
		}
	}
	slices.Sort(r.needed)
	return r, nil
}

// Command tells whether an application has a command, and its name.
func (d *Dictionary) Command(application, code uint32) (string, bool) {
	if r := d.rules[command{application, code, true}]; r != nil {
		return r.name, true
	}
	return "", false
}

// FaultError is why a message is refused (RFC 6733 7.1.5): the result code, and the AVP that Failed-AVP names.
type FaultError struct {
	Code   uint32
	Failed []byte // with its header
	Text   string
}

// Error tells the fault.
func (f *FaultError) Error() string { return fmt.Sprintf("%d: %s", f.Code, f.Text) }

// Validate checks a message of a known command: lengths and forms of AVPs, grouped ones too, those that must be
// there, and those that we would have to understand (M flag) and do not. It returns nil or a FaultError.
func (d *Dictionary) Validate(m wire.Message) *FaultError {
	r := d.rules[command{m.Application(), m.Command(), m.Request()}]
	if r == nil {
		return &FaultError{Code: wire.CommandUnsupported, Text: fmt.Sprintf("command %d of application %d is not known", m.Command(), m.Application())}
	}
	if f := d.group(m.Application(), m[wire.HeaderSize:], 0); f != nil {
		return f
	}
	seen := map[wire.Attribute]int{}
	for s := m.AVPs(); s.Next(); {
		seen[s.Kind]++
		if rule, ok := r.allowed[s.Kind]; ok && rule.most > 0 && seen[s.Kind] > rule.most {
			return &FaultError{Code: wire.AVPOccursTooManyTimes, Failed: s.Whole(), Text: "more than one " + rule.name}
		}
	}
	for _, a := range r.needed {
		if seen[a] == 0 {
			return &FaultError{Code: wire.MissingAVP, Failed: example(a), Text: "there is no " + r.allowed[a].name}
		}
	}
	return nil
}

// deepest is how far groups may be nested. No application that we know needs half of it.
const deepest = 8

func (d *Dictionary) group(application uint32, avps []byte, depth int) *FaultError {
	s := wire.Group(avps)
	for s.Next() {
		if f := d.avp(application, &s, depth); f != nil {
			return f
		}
	}
	if s.Err() != nil {
		rest := s.Rest() // RFC 6733 7.1.5: the header, and zeros as large as the type demands
		return &FaultError{Code: wire.InvalidAVPLength, Failed: append(bytes.Clone(rest[:min(4, len(rest))]), 0, 0, 0, 8), Text: "an AVP does not fit"}
	}
	return nil
}

func (d *Dictionary) avp(application uint32, s *wire.Scanner, depth int) *FaultError {
	known, err := d.Parser.FindAVPWithVendor(application, s.Kind.Code(), s.Kind.Vendor())
	if err != nil || known == nil || known.Code != s.Kind.Code() || known.VendorID != s.Kind.Vendor() {
		if s.Flag&0x40 != 0 {
			return &FaultError{Code: wire.AVPUnsupported, Failed: s.Whole(), Text: fmt.Sprintf("AVP %d of vendor %d must be understood and is not known", s.Kind.Code(), s.Kind.Vendor())}
		}
		return nil
	}
	bad := func(code uint32, text string) *FaultError {
		return &FaultError{Code: code, Failed: s.Whole(), Text: known.Name + " " + text}
	}
	switch known.Data.Type {
	case datatype.GroupedType:
		if depth == deepest {
			return bad(wire.InvalidAVPValue, "is nested too deep")
		}
		return d.group(application, s.Data, depth+1)
	case datatype.Unsigned32Type, datatype.Integer32Type, datatype.EnumeratedType, datatype.TimeType, datatype.Float32Type:
		if len(s.Data) != 4 {
			return bad(wire.InvalidAVPLength, "does not have 4 bytes")
		}
	case datatype.Unsigned64Type, datatype.Integer64Type, datatype.Float64Type:
		if len(s.Data) != 8 {
			return bad(wire.InvalidAVPLength, "does not have 8 bytes")
		}
	case datatype.UTF8StringType:
		if !utf8.Valid(s.Data) || strings.ContainsRune(string(s.Data), 0) {
			return bad(wire.InvalidAVPValue, "is not text")
		}
	case datatype.DiameterIdentityType:
		if !Identity(string(s.Data)) {
			return bad(wire.InvalidAVPValue, "is no host or realm name")
		}
	}
	return nil
}

// Identity tells whether a text can be a DiameterIdentity: a host name, or what stands for one where nodes have none.
func Identity(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == '_', c == ':', c == '[', c == ']':
		default:
			return false
		}
	}
	return true
}

// example is an empty AVP of a kind, for Failed-AVP.
func example(a wire.Attribute) []byte {
	b := wire.NewRequest(nil, 0, 0, 0).Bytes(a|wire.Mandatory, nil)
	m, err := b.Finish()
	if err != nil {
		return nil
	}
	return m[wire.HeaderSize:]
}
