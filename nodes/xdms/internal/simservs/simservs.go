// Package simservs checks simulation services documents (TS 24.623 and the service specifications it collects: TS 24.604,
// 24.607, 24.608, 24.611, 24.615; rules after RFC 4745). It says what XML schema validation would say, in words that
// name the place. It stores nothing and interprets nothing: what a document means is the application server's affair.
package simservs

import (
	"errors"
	"fmt"
)

// Namespaces of the schema set.
const (
	Namespace    = "http://uri.etsi.org/ngn/params/xml/simservs/xcap"
	CommonPolicy = "urn:ietf:params:xml:ns:common-policy"
)

// ErrInvalid is wrapped by every error of Validate.
var ErrInvalid = errors.New("invalid document")

// Validate checks a whole document.
func Validate(document []byte) error {
	root, err := Parse(document)
	if err != nil {
		return err
	}
	if root.Space != Namespace || root.Local != "simservs" {
		return root.problem("the document element must be simservs in namespace %s", Namespace)
	}
	return check(root, schemaRoot())
}

func (e *Element) problem(format string, args ...any) error {
	return fmt.Errorf("%w: line %d: element %s: %s", ErrInvalid, e.Line, e.Local, fmt.Sprintf(format, args...))
}
