package enum

import (
	"context"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Policy decides which URIs are translated.
type Policy struct {
	UserPhone    bool // enforce_user_phone: of sip: URIs only those with user=phone
	GlobalOnly   bool // enforce_global_only_lookups: only numbers that begin with +
	OverrideNPDI bool // override_npdi: take portability data from the translation even if the request has npdi
}

// Wants tells whether a URI is a number to translate. Whose domain a sip: URI is of is the caller's matter.
func (p Policy) Wants(u sip.URI) bool {
	switch u.Scheme {
	case "tel":
	case "sip", "sips":
		if v, _ := u.Param("user"); !strings.EqualFold(v, "phone") && (p.UserPhone || !onlyDigits(u.Number())) {
			return false
		}
	default:
		return false
	}
	number := u.Number()
	return onlyDigits(number) && (!p.GlobalOnly || number[0] == '+')
}

// Portability tells the routing number and the dip indicator of a URI (RFC 4694): parameters of tel:, and of the user
// part of sip:, or those of the sip: URI itself, where some rules put them.
func Portability(u sip.URI) (rn string, npdi bool) {
	for _, params := range []string{userParams(u), u.Params} {
		if rn == "" {
			rn, _ = sip.Param(params, "rn")
		}
		if _, ok := sip.Param(params, "npdi"); ok {
			npdi = true
		}
	}
	return rn, npdi
}

func userParams(u sip.URI) string {
	if i := strings.IndexByte(u.User, ';'); i >= 0 && u.Scheme != "tel" {
		return u.User[i:]
	}
	return ""
}

// Takes tells whether the translation of a URI replaces it. A request whose number was looked up for portability already
// (npdi) takes no portability data from a second look-up, unless override_npdi says so.
func (p Policy) Takes(u, translation sip.URI) bool {
	_, looked := Portability(u)
	rn, npdi := Portability(translation)
	return !looked || p.OverrideNPDI || rn == "" && !npdi
}

// Translate returns what a URI is translated into; false when it is no number to translate, when nothing is known of it,
// or when its own portability data stand. Errors are those of Lookup.
func (c *Client) Translate(ctx context.Context, u sip.URI) (sip.URI, bool, error) {
	policy := c.settings.Load().Policy
	if !policy.Wants(u) {
		return u, false, nil
	}
	result, err := c.Lookup(ctx, u.Number())
	if err != nil || !result.Found || !policy.Takes(u, result.URI) || result.URI == u {
		return u, false, err
	}
	return result.URI, true, nil
}
