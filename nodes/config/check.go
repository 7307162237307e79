package config

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var errValue = errors.New("value refused")

var (
	hostPattern      = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\.?$`)
	diskLimit        = regexp.MustCompile(`^[0-9]+([kKmMgG][bB]?|%)?$`)
	originPattern    = regexp.MustCompile(`^([a-z]+://)?[A-Za-z0-9.*-]+(:[0-9]{1,5})?$`)
	emergencyNumber  = regexp.MustCompile(`^[0-9*#]{2,8}(:sos(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*)?$`)
	emergencyService = regexp.MustCompile(`^(\*|sos(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*)$`)
	labelPattern     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

type checker struct {
	allowed string
	ok      func(string) bool
}

// checks names what a value may be, once in words and once in code.
var checks = map[string]checker{ //nolint:gochecknoglobals // a table
	"":          {"any text", func(string) bool { return true }},
	"ip":        {"an IPv4 or IPv6 address", isIP},
	"ip6":       {"an IPv6 address", func(v string) bool { a, err := netip.ParseAddr(v); return err == nil && a.Is6() && !a.Is4In6() }},
	"ips":       {"an IPv4 or IPv6 address", isIP},
	"host":      {"a DNS name or an IP address", isHost},
	"hosts":     {"a DNS name or an IP address", isHost},
	"hostport":  {"host or host:port", isHostPort},
	"addrports": {"an IP address, optionally with :port", isAddrPort},
	"regevent":  {"requests, registrations or N", oneOf("requests", "registrations", "N")},
	"prefixes":  {"an IP network in CIDR form", isPrefix},
	"label":     {"a DNS label: lower-case letters, digits and hyphens, at most 63", func(v string) bool { return labelPattern.MatchString(v) }},
	"role":      {"one of store, diameter, xdms, router, edge, portal", func(v string) bool { return Role(v).Known() }},
	"engine":    {"embedded or cassandra", oneOf("embedded", "cassandra")},
	"rrlevel":   {"pcscf, or pcscf,icscf, or pcscf,icscf,as", oneOf("pcscf", "pcscf,icscf", "pcscf,icscf,as")},
	"domain":    {"a DNS name", func(v string) bool { return isHost(v) && !isIP(v) }},
	"url":       {"an http or https URL", func(v string) bool { return strings.HasPrefix(v, "http://") || strings.HasPrefix(v, "https://") }},
	"disklimit": {"a number of bytes with k, m or g if wanted, or a percentage", diskLimit.MatchString},
	"impistore": {"impi or av-impi", oneOf("impi", "av-impi")},
	// The manual's own example writes the second one with "req".
	"nonregister": {"if_proxy_authorization_present or initial_req_from_reg_digest_endpoint", oneOf("if_proxy_authorization_present", "initial_req_from_reg_digest_endpoint", "initial_req_from_req_digest_endpoint")},
	// Y is what the manual says for "accept everybody", and what the name says for the opposite.
	"authentication":   {"challenge or accept_all (Y and N can be read either way and are refused)", oneOf("challenge", "accept_all")},
	"snmptypes":        {"rfc3877 or enterprise", oneOf("rfc3877", "enterprise")},
	"drainanswer":      {"305 or 503", oneOf("305", "503")},
	"origins":          {"host names of web pages, with * if wanted, optionally after http:// or https:// and with :port", originPattern.MatchString},
	"emergencyroutes":  {"a service and where it goes: sos=sip:answering.point, sos.fire=sip:..., or *=sip:... for any other; a service may be named again to add another", emergencyRoute},
	"emergencynumbers": {"a number, optionally with its service: 112 or 110:sos.police", emergencyNumber.MatchString},
	"sipuri":           {"a SIP URI (sip:host or sip:host:port)", func(v string) bool { return strings.HasPrefix(v, "sip:") && len(v) > 4 }},
}

func check(name, value string) (allowed string, err error) {
	c := checks[name]
	if !c.ok(value) {
		return c.allowed, errValue
	}
	return "", nil
}

func oneOf(values ...string) func(string) bool {
	return func(v string) bool { return slices.Contains(values, v) }
}

func isIP(v string) bool {
	_, err := netip.ParseAddr(v)
	return err == nil
}

func isPrefix(v string) bool {
	_, err := netip.ParsePrefix(v)
	return err == nil
}

func isHost(v string) bool {
	return isIP(v) || (len(v) <= 253 && hostPattern.MatchString(v))
}

// emergencyRoute tells <service>=<sip or tel URI>.
func emergencyRoute(v string) bool {
	service, uri, ok := strings.Cut(v, "=")
	scheme, rest, _ := strings.Cut(uri, ":")
	return ok && emergencyService.MatchString(service) && (scheme == "sip" || scheme == "sips" || scheme == "tel") && rest != "" && !strings.ContainsAny(rest, " <>\"")
}

func isHostPort(v string) bool {
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return isHost(v)
	}
	n, err := strconv.Atoi(port)
	return err == nil && n > 0 && n < 65536 && isHost(host)
}

func isAddrPort(v string) bool {
	_, err := netip.ParseAddrPort(v)
	return err == nil || isIP(v)
}

// nearest finds the name, of options with or without effect, with the smallest edit distance.
func nearest(name string, known map[string]spec) string {
	best, bestDistance := "", 1<<30
	candidates := slices.Collect(maps.Keys(known))
	for _, s := range legacyOptions() {
		candidates = append(candidates, s.name)
	}
	for _, candidate := range candidates {
		if d := distance(name, candidate); d < bestDistance || (d == bestDistance && candidate < best) {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance is the Levenshtein distance of two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		previous := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			previous, row[j] = row[j], min(row[j]+1, row[j-1]+1, previous+cost)
		}
	}
	return row[len(b)]
}
