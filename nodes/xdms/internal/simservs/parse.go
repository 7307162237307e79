package simservs

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits of a document. A legitimate one has a few dozen elements and is under ten levels deep.
const (
	MaxSize     = 128 << 10 // bytes
	MaxDepth    = 32        // elements inside elements
	MaxElements = 4096
)

// Element is one element of a parsed document.
type Element struct {
	Space, Local string
	Attributes   []xml.Attr
	Children     []*Element
	Text         string // character data directly inside, trimmed
	Line         int
}

// Attribute returns the value of an attribute without namespace.
func (e *Element) Attribute(name string) (string, bool) {
	for _, a := range e.Attributes {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value, true
		}
	}
	return "", false
}

// Parse reads a document within the limits. Document type declarations are refused, and with them entities of any
// kind, so that no input expands or reaches outside.
func Parse(document []byte) (*Element, error) {
	if len(document) > MaxSize {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d are allowed", ErrInvalid, len(document), MaxSize)
	}
	p := parser{decoder: xml.NewDecoder(bytes.NewReader(document))}
	p.decoder.CharsetReader = func(charset string, _ io.Reader) (io.Reader, error) {
		return nil, fmt.Errorf("encoding %q is not UTF-8", charset)
	}
	for {
		token, err := p.decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if err := p.take(token); err != nil {
			return nil, err
		}
	}
	if p.root == nil {
		return nil, fmt.Errorf("%w: there is no document element", ErrInvalid)
	}
	return p.root, nil
}

type parser struct {
	decoder  *xml.Decoder
	root     *Element
	open     []*Element
	elements int
}

func (p *parser) take(token xml.Token) error {
	line, _ := p.decoder.InputPos()
	switch t := token.(type) {
	case xml.StartElement:
		return p.start(t, line)
	case xml.EndElement:
		top := p.open[len(p.open)-1]
		top.Text = strings.TrimSpace(top.Text)
		p.open = p.open[:len(p.open)-1]
	case xml.CharData:
		if len(p.open) > 0 {
			p.open[len(p.open)-1].Text += string(t)
		} else if len(bytes.TrimSpace(t)) > 0 {
			return fmt.Errorf("%w: line %d: text outside the document element", ErrInvalid, line)
		}
	case xml.Directive:
		return fmt.Errorf("%w: line %d: document type declarations and entities are not allowed", ErrInvalid, line)
	}
	return nil
}

func (p *parser) start(t xml.StartElement, line int) error {
	p.elements++
	if len(p.open) >= MaxDepth || p.elements > MaxElements {
		return fmt.Errorf("%w: line %d: at most %d elements, nested at most %d deep, are allowed", ErrInvalid, line, MaxElements, MaxDepth)
	}
	e := &Element{Space: t.Name.Space, Local: t.Name.Local, Line: line}
	seen := map[xml.Name]bool{}
	for _, a := range t.Attr {
		if seen[a.Name] {
			return e.problem("attribute %s is given twice", a.Name.Local)
		}
		seen[a.Name] = true
		if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
			e.Attributes = append(e.Attributes, a)
		}
	}
	switch {
	case len(p.open) > 0:
		parent := p.open[len(p.open)-1]
		parent.Children = append(parent.Children, e)
	case p.root != nil:
		return e.problem("there is a second document element")
	default:
		p.root = e
	}
	p.open = append(p.open, e)
	return nil
}
