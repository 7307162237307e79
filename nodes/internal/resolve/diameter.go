package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// PortDiameter and PortDiameterTLS are the ports of Diameter where DNS names none (RFC 6733 2.1).
const (
	PortDiameter    = 3868
	PortDiameterTLS = 5658
)

// Diameter finds the peers of a realm (RFC 6733 5.2, RFC 6408): NAPTR, then SRV, then the addresses of the realm's own
// name. Hops are in the order in which to try them; those of lower SRV priority come last. application is one that
// the peers must have, where their NAPTR records tell. A host name or an address leads to its addresses.
func (r *Resolver) Diameter(ctx context.Context, realm string, port uint16, application uint32) ([]Hop, error) {
	if a, ok := ParseHost(realm); ok {
		return bare([]ranked{{Hop: Hop{Addr: netip.AddrPortFrom(a, port), Transport: TCP}}}), nil
	}
	hops, err := r.diameterNAPTR(ctx, realm, port, application)
	if errors.Is(err, ErrNotFound) {
		hops, err = r.srv(ctx, "_diameter._tcp."+realm, TCP)
	}
	if errors.Is(err, ErrNotFound) {
		hops, err = r.srv(ctx, "_diameters._tcp."+realm, TLS)
	}
	if errors.Is(err, ErrNotFound) {
		hops, err = r.hosts(ctx, realm, port, TCP)
	}
	if err != nil {
		return nil, fmt.Errorf("finding Diameter peers of %s: %w", realm, err)
	}
	for i := range hops {
		if hops[i].Transport == TLS {
			hops[i].Name = realm
		}
	}
	return bare(hops), nil
}

// diameterNAPTR follows the best usable NAPTR record. A record that leads nowhere gives way to the next.
func (r *Resolver) diameterNAPTR(ctx context.Context, realm string, port uint16, application uint32) ([]ranked, error) {
	rrs, err := r.lookup(ctx, realm, dns.TypeNAPTR)
	if err != nil {
		return nil, err
	}
	var usable []*dns.NAPTR
	for _, rr := range rrs {
		if n, ok := rr.(*dns.NAPTR); ok && diameterTransport(n.Service, application) != None {
			usable = append(usable, n)
		}
	}
	slices.SortStableFunc(usable, func(a, b *dns.NAPTR) int {
		if a.Order != b.Order {
			return int(a.Order) - int(b.Order)
		}
		return int(a.Preference) - int(b.Preference)
	})
	for _, n := range usable {
		t := diameterTransport(n.Service, application)
		var hops []ranked
		switch strings.ToLower(n.Flags) {
		case "s":
			hops, err = r.srv(ctx, n.Replacement, t)
		case "a":
			at := port
			if t == TLS {
				at = PortDiameterTLS
			}
			hops, err = r.hosts(ctx, n.Replacement, at, t)
		default:
			continue
		}
		if err == nil && len(hops) > 0 {
			return hops, nil
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	return nil, ErrNotFound
}

// diameterTransport reads a service field: that of RFC 3588 (AAA+D2T) and those of RFC 6408 (aaa:diameter.tcp,
// aaa+ap16777216:diameter.tls.tcp). Over SCTP nothing is reached.
func diameterTransport(service string, application uint32) Transport {
	name, protocol, extended := strings.Cut(strings.ToLower(service), ":")
	if !extended {
		switch name {
		case "aaa+d2t":
			return TCP
		case "aaas+d2t":
			return TLS
		}
		return None
	}
	if name != "aaa" && name != fmt.Sprintf("aaa+ap%d", application) {
		return None
	}
	switch protocol {
	case "diameter.tcp":
		return TCP
	case "diameter.tls.tcp":
		return TLS
	}
	return None
}
