package registrar

import (
	"fmt"
	"slices"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// PublicGRUU is the URI that means one phone of a user (RFC 5627 3.2, TS 24.229 5.4.7A.2): identity with the instance
// of a binding; "" for a binding that has none, and for an identity that can have no parameters (tel:).
func PublicGRUU(identity string, b *registrations.Binding) string {
	id := instance(b)
	if u, err := sip.ParseURI(identity); id == "" || err != nil || u.Scheme != "sip" && u.Scheme != "sips" {
		return ""
	}
	return identity + ";gr=" + escaped(id)
}

// instance is the +sip.instance of a binding without quotes and brackets.
func instance(b *registrations.Binding) string {
	v, _ := sip.Param(b.GetParams(), "+sip.instance")
	return strings.TrimSuffix(strings.TrimPrefix(strings.Trim(v, `"`), "<"), ">")
}

// escaped is text as the value of a URI parameter (RFC 3261 25.1, paramchar).
func escaped(text string) string {
	var out strings.Builder
	out.Grow(len(text))
	for i := range len(text) {
		c := text[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.!~*'()[]/:&+$", c) >= 0 {
			out.WriteByte(c)
			continue
		}
		fmt.Fprintf(&out, "%%%02X", c)
	}
	return out.String()
}

// OfInstance are those of the bindings that a Request-URI means: all, unless it is a public GRUU (RFC 5627 6.1).
func OfInstance(requestURI string, bindings []*registrations.Binding) []*registrations.Binding {
	u, err := sip.ParseURI(requestURI)
	if err != nil {
		return bindings
	}
	gr, _ := u.Param("gr")
	if gr == "" {
		return bindings
	}
	return slices.DeleteFunc(slices.Clone(bindings), func(b *registrations.Binding) bool {
		return instance(b) == "" || !strings.EqualFold(escaped(instance(b)), gr)
	})
}
