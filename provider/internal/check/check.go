// Package check holds the validators of attributes. Each says at plan time which attribute, which value and what is
// allowed.
package check

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/schema/validator"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

// text checks a string with a function and says in words what is allowed.
type text struct {
	allowed string
	ok      func(string) bool
}

func (v text) Description(context.Context) string         { return "must be " + v.allowed }
func (v text) MarkdownDescription(context.Context) string { return "must be " + v.allowed }

func (v text) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() || v.ok(req.ConfigValue.ValueString()) {
		return
	}
	resp.Diagnostics.AddAttributeError(req.Path, "Invalid value of "+req.Path.String(),
		fmt.Sprintf("%s = %q: allowed is %s.", req.Path, req.ConfigValue.ValueString(), v.allowed))
}

var (
	label  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)
	domain = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	number = regexp.MustCompile(`^[0-9]{3,15}$`)
	public = regexp.MustCompile(`^(sip:[^@\s;?]+@[a-z0-9.-]+|tel:\+?[0-9*#-]+)$`)
)

// Name is a DNS label that is short enough to be part of names.
func Name() validator.String {
	return text{"a DNS label: 1 to 32 lower-case letters, digits and inner hyphens", label.MatchString}
}

// Domain is a DNS name.
func Domain() validator.String {
	return text{"a DNS name in lower case with at least two labels and at most 200 characters, without a final dot, such as ims.example.com",
		func(s string) bool { return len(s) <= 200 && domain.MatchString(s) }}
}

// Number is a telephone number.
func Number() validator.String {
	return text{"a number of 3 to 15 digits, without +", number.MatchString}
}

// PublicIdentity is a SIP or tel URI.
func PublicIdentity() validator.String {
	return text{"a SIP URI with user and lower-case domain (sip:6505550000@ims.example.com) or a tel URI", public.MatchString}
}

// PrivateIdentity is an IMPI: a network access identifier, without a scheme.
func PrivateIdentity() validator.String {
	return text{"a private identity without a scheme, such as 6505550000@ims.example.com",
		func(s string) bool {
			return s != "" && len(s) <= 255 && !strings.ContainsAny(s, " \t\r\n\"") && !strings.HasPrefix(s, "sip:")
		}}
}

// Duration is a Go duration that is not negative.
func Duration() validator.String {
	return text{"a duration such as 90s, 10m or 1h", func(s string) bool {
		d, err := time.ParseDuration(s)
		return err == nil && d >= 0
	}}
}

// CIDR is an IPv4 prefix without host bits, of /24 or larger.
func CIDR() validator.String {
	return text{"an IPv4 network of /24 or larger in CIDR form without host bits, such as 127.70.1.0/24", func(s string) bool {
		p, err := netip.ParsePrefix(s)
		return err == nil && p.Addr().Is4() && p.Bits() <= 24 && p == p.Masked()
	}}
}

// Prefix is any IPv4 or IPv6 range.
func Prefix() validator.String {
	return text{"a range in CIDR form, such as 192.0.2.0/24", func(s string) bool {
		_, err := netip.ParsePrefix(s)
		return err == nil
	}}
}

// AddressPort is an address with a port.
func AddressPort() validator.String {
	return text{"an address with a port, such as 10.0.0.2:53", func(s string) bool {
		_, err := netip.ParseAddrPort(s)
		return err == nil
	}}
}

// Role is one of the roles.
func Role() validator.String {
	var names []string
	for _, r := range config.Roles() {
		names = append(names, string(r))
	}
	return text{"one of " + strings.Join(names, ", "), func(s string) bool { return config.Role(s).Known() }}
}

// Prefixed is an id of a resource of this provider with that many parts.
func Prefixed(parts int, of string) validator.String {
	return text{"the id of a " + of, func(s string) bool {
		return len(strings.SplitN(s, "/", parts)) == parts && !strings.HasPrefix(s, "/") && !strings.HasSuffix(s, "/")
	}}
}
