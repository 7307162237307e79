package config

import (
	"errors"
	"net"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var errValue = errors.New("value refused")

var (
	hostPattern  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*\.?$`)
	labelPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

type checker struct {
	allowed string
	ok      func(string) bool
}

// checks names what a value may be, once in words and once in code.
var checks = map[string]checker{ //nolint:gochecknoglobals // a table
	"":            {"any text", func(string) bool { return true }},
	"ip":          {"an IPv4 or IPv6 address", isIP},
	"ips":         {"an IPv4 or IPv6 address", isIP},
	"host":        {"a DNS name or an IP address", isHost},
	"hosts":       {"a DNS name or an IP address", isHost},
	"hostport":    {"host or host:port", isHostPort},
	"addrports":   {"an IP address, optionally with :port", isAddrPort},
	"label":       {"a DNS label: lower-case letters, digits and hyphens, at most 63", func(v string) bool { return labelPattern.MatchString(v) }},
	"role":        {"one of store, diameter, xdms, router, edge, portal", func(v string) bool { return Role(v).Known() }},
	"engine":      {"embedded or cassandra", oneOf("embedded", "cassandra")},
	"rrlevel":     {"pcscf, or pcscf,icscf, or pcscf,icscf,as", oneOf("pcscf", "pcscf,icscf", "pcscf,icscf,as")},
	"drainanswer": {"305 or 503", oneOf("305", "503")},
	"sipuri":      {"a SIP URI (sip:host or sip:host:port)", func(v string) bool { return strings.HasPrefix(v, "sip:") && len(v) > 4 }},
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

func isHost(v string) bool {
	return isIP(v) || (len(v) <= 253 && hostPattern.MatchString(v))
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

// accepted lists options of the manual that are read and have no effect here, with the reason.
func accepted(name string) (reason string, ok bool) {
	reason, ok = map[string]string{
		"astaire_cpu_limit_percentage": "accepted, no effect: there is no memcached to resynchronise",
		"num_worker_threads":           "accepted, no effect: work is scheduled over all cores",
		"num_http_threads":             "accepted, no effect: work is scheduled over all cores",
		"num_http_worker_threads":      "accepted, no effect: work is scheduled over all cores",
		"sprout_worker_threads":        "accepted, no effect: work is scheduled over all cores",
		"homestead_cache_threads":      "accepted, no effect: work is scheduled over all cores",
	}[name]
	return reason, ok
}

// nearest finds the known name with the smallest edit distance.
func nearest(name string, known map[string]reflect.StructField) string {
	best, bestDistance := "", 1<<30
	for candidate := range known {
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
