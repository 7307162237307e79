// Package profilexml checks the XML of user profiles that provisioning takes (PublicIdentity and ServiceProfile of TS
// 29.228 annex E) and writes the IMSSubscription that the S-CSCF gets. Namespaces, attributes and comments are
// stripped on the way in. It does not evaluate filter criteria.
package profilexml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrInvalid is wrapped by every error of parsing; its text names the element and what is allowed.
var ErrInvalid = errors.New("invalid XML")

// maxDepth of elements: a profile needs ten.
const maxDepth = 32

// node is an element without its namespace and attributes.
type node struct {
	name     string
	text     string // character data, trimmed; only of elements without children
	children []*node
	raw      []byte // while it is being read
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// parse reads one element and nothing else.
func parse(text []byte) (*node, error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	top := &node{}
	stack := []*node{top}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, invalid("%v", err)
		}
		current := stack[len(stack)-1]
		switch t := token.(type) {
		case xml.StartElement:
			if len(stack) > maxDepth {
				return nil, invalid("elements are nested more than %d deep", maxDepth)
			}
			child := &node{name: t.Name.Local}
			current.children = append(current.children, child)
			stack = append(stack, child)
		case xml.EndElement:
			current.text, current.raw = strings.TrimSpace(string(current.raw)), nil
			if len(current.children) > 0 && current.text != "" {
				return nil, invalid("<%s> holds text beside its elements", current.name)
			}
			stack = stack[:len(stack)-1]
		case xml.CharData:
			current.raw = append(current.raw, t...)
		case xml.Directive:
			return nil, invalid("document type declarations are not taken")
		}
	}
	if len(top.children) != 1 || len(bytes.TrimSpace(top.raw)) > 0 {
		return nil, invalid("one element is expected, nothing beside it")
	}
	return top.children[0], nil
}

// write appends the element as XML.
func (n *node) write(b *strings.Builder) {
	b.WriteString("<" + n.name)
	if n.text == "" && len(n.children) == 0 {
		b.WriteString("/>")
		return
	}
	b.WriteString(">")
	escape(b, n.text)
	for _, c := range n.children {
		c.write(b)
	}
	b.WriteString("</" + n.name + ">")
}

func escape(b *strings.Builder, text string) {
	_ = xml.EscapeText(b, []byte(text)) // a Builder takes everything
}

func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// PublicIdentity is a checked <PublicIdentity>.
type PublicIdentity struct {
	Identity  string
	Barred    bool
	Extension string // the <Extension> element, if there is one
}

// ParsePublicIdentity checks a <PublicIdentity> document.
func ParsePublicIdentity(text []byte) (PublicIdentity, error) {
	n, err := parse(text)
	if err != nil {
		return PublicIdentity{}, err
	}
	if n.name != "PublicIdentity" {
		return PublicIdentity{}, invalid("the element is <%s>, wanted is <PublicIdentity>", n.name)
	}
	if err := check(n, publicIdentity()); err != nil {
		return PublicIdentity{}, err
	}
	id := PublicIdentity{Identity: n.child("Identity").text}
	if b := n.child("BarringIndication"); b != nil {
		id.Barred = b.text == "1" || b.text == "true"
	}
	if e := n.child("Extension"); e != nil {
		var b strings.Builder
		e.write(&b)
		id.Extension = b.String()
	}
	return id, nil
}

// ParseServiceProfile checks a <ServiceProfile> document and returns the elements that are criteria:
// InitialFilterCriteria, CoreNetworkServicesAuthorization and Extension. Public identities in it are checked and left
// out: they are provisioned one by one.
func ParseServiceProfile(text []byte) (criteria string, err error) {
	n, err := parse(text)
	if err != nil {
		return "", err
	}
	if n.name != "ServiceProfile" {
		return "", invalid("the element is <%s>, wanted is <ServiceProfile>", n.name)
	}
	if err := check(n, serviceProfile()); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, c := range n.children {
		if c.name != "PublicIdentity" {
			c.write(&b)
		}
	}
	return b.String(), nil
}

// Profile is a service profile of a subscription.
type Profile struct {
	Identities []PublicIdentity
	Criteria   string
}

// IMSSubscription writes the document that a Server-Assignment-Answer carries. Identities and criteria must come
// from the parsers of this package. Profiles without an identity are left out: the schema wants one.
func IMSSubscription(privateID string, profiles []Profile) string {
	var b strings.Builder
	b.WriteString("<IMSSubscription><PrivateID>")
	escape(&b, privateID)
	b.WriteString("</PrivateID>")
	for _, p := range profiles {
		if len(p.Identities) == 0 {
			continue
		}
		b.WriteString("<ServiceProfile>")
		for _, id := range p.Identities {
			b.WriteString("<PublicIdentity><Identity>")
			escape(&b, id.Identity)
			b.WriteString("</Identity>")
			if id.Barred {
				b.WriteString("<BarringIndication>1</BarringIndication>")
			}
			b.WriteString(id.Extension)
			b.WriteString("</PublicIdentity>")
		}
		b.WriteString(p.Criteria)
		b.WriteString("</ServiceProfile>")
	}
	b.WriteString("</IMSSubscription>")
	return b.String()
}

// ServiceProfile writes criteria as the document that provisioning returns.
func ServiceProfile(criteria string) string {
	return "<ServiceProfile>" + criteria + "</ServiceProfile>"
}
