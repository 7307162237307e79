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

// maxHops bounds a try-list; a client that failed so often has no time left for more.
const maxHops = 16

// SIP returns where to send a request for the target, best first (RFC 3263 section 4). Hops that are black are last.
// Errors: ErrNotFound, ErrUnavailable, or that of ctx.
func (r *Resolver) SIP(ctx context.Context, t Target) ([]Hop, error) {
	hops, err := r.locate(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("resolving %s: %w", t.Host, err)
	}
	return r.black.order(bare(hops), r.now()), nil
}

// Preferred returns the equally good hops of the target: those of the first priority that has one which is not black,
// without the black ones; when all are black, those of the first priority. It suits who spreads connections itself.
func (r *Resolver) Preferred(ctx context.Context, t Target) ([]Hop, error) {
	hops, err := r.locate(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("resolving %s: %w", t.Host, err)
	}
	for start := 0; start < len(hops); {
		end := start + 1
		for end < len(hops) && hops[end].rank == hops[start].rank {
			end++
		}
		if usable := r.black.without(bare(hops[start:end]), r.now()); len(usable) > 0 {
			return usable, nil
		}
		start = end
	}
	first := slices.IndexFunc(hops, func(h ranked) bool { return h.rank != hops[0].rank })
	if first < 0 {
		first = len(hops)
	}
	return bare(hops[:first]), nil
}

// ranked is a hop with the priority of its SRV record.
type ranked struct {
	Hop
	rank uint16
}

func bare(hops []ranked) []Hop {
	out := make([]Hop, len(hops))
	for i, h := range hops {
		out[i] = h.Hop
	}
	return out
}

func (r *Resolver) locate(ctx context.Context, t Target) ([]ranked, error) {
	hops, err := r.find(ctx, t)
	if names := r.stateless.Load(); names != nil && (*names)[hostKey(t.Host)] {
		for i := range hops {
			hops[i].Stateless = true
		}
	}
	if _, numeric := ParseHost(t.Host); !numeric {
		for i := range hops {
			if hops[i].Transport == TLS {
				hops[i].Name = strings.ToLower(strings.TrimSuffix(t.Host, "."))
			}
		}
	}
	return hops, err
}

func (r *Resolver) find(ctx context.Context, t Target) ([]ranked, error) {
	sips := strings.EqualFold(t.Scheme, "sips")
	if sips && t.Transport != None {
		t.Transport = TLS // sips with transport=tcp is TLS over TCP (RFC 3261 19.1.2, 26.2.2)
	}
	if addr, ok := ParseHost(t.Host); ok {
		hop := Hop{Addr: netip.AddrPortFrom(addr, portOr(t.Port, t.transport(sips))), Transport: t.transport(sips)}
		return []ranked{{Hop: hop}}, nil
	}
	t.Host = r.override(strings.ToLower(dns.Fqdn(t.Host))) // its services too are those of the other name
	if t.Port != 0 {                                       // RFC 3263 4.2: an explicit port means addresses only
		return r.hosts(ctx, t.Host, t.Port, t.transport(sips))
	}
	if t.Transport != None {
		return r.services(ctx, t.Host, []Transport{t.Transport}, t.Transport)
	}
	hops, err := r.naptr(ctx, t.Host, sips)
	if err == nil && len(hops) > 0 {
		return hops, nil
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	if sips {
		return r.services(ctx, t.Host, []Transport{TLS}, TLS)
	}
	return r.services(ctx, t.Host, []Transport{UDP, TCP}, UDP)
}

// transport is the one used when no record says otherwise (RFC 3263 4.1).
func (t Target) transport(sips bool) Transport {
	switch {
	case t.Transport != None:
		return t.Transport
	case sips:
		return TLS
	}
	return UDP
}

func portOr(port uint16, t Transport) uint16 {
	switch {
	case port != 0:
		return port
	case t == TLS:
		return 5061
	}
	return 5060
}

// naptr follows the best usable NAPTR record (RFC 3263 4.1). A record that leads nowhere gives way to the next.
func (r *Resolver) naptr(ctx context.Context, host string, sips bool) ([]ranked, error) {
	rrs, err := r.lookup(ctx, host, dns.TypeNAPTR)
	if err != nil {
		return nil, err
	}
	var usable []*dns.NAPTR
	for _, rr := range rrs {
		n, ok := rr.(*dns.NAPTR)
		if !ok || !strings.EqualFold(n.Flags, "s") {
			continue
		}
		if t := naptrTransport(n.Service); t != None && (!sips || t == TLS) {
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
		hops, err := r.srv(ctx, n.Replacement, naptrTransport(n.Service))
		if err == nil && len(hops) > 0 {
			return hops, nil
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	return nil, ErrNotFound
}

func naptrTransport(service string) Transport {
	switch strings.ToUpper(service) {
	case "SIP+D2U":
		return UDP
	case "SIP+D2T":
		return TCP
	case "SIPS+D2T":
		return TLS
	}
	return None
}

// services tries the SRV records of each transport in turn, then the addresses of the host itself.
func (r *Resolver) services(ctx context.Context, host string, try []Transport, plain Transport) ([]ranked, error) {
	for _, t := range try {
		hops, err := r.srv(ctx, srvName(host, t), t)
		if err == nil && len(hops) > 0 {
			return hops, nil
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, err
		}
	}
	return r.hosts(ctx, host, portOr(0, plain), plain)
}

func srvName(host string, t Transport) string {
	switch t {
	case TLS:
		return "_sips._tcp." + host
	case TCP:
		return "_sip._tcp." + host
	default:
		return "_sip._udp." + host
	}
}

// srv expands one SRV set: priorities in order, weights by lot (RFC 2782), every address of every target.
func (r *Resolver) srv(ctx context.Context, name string, t Transport) ([]ranked, error) {
	rrs, err := r.lookup(ctx, name, dns.TypeSRV)
	if err != nil {
		return nil, err
	}
	var records []*dns.SRV
	for _, rr := range rrs {
		if s, ok := rr.(*dns.SRV); ok && s.Target != "." {
			records = append(records, s)
		}
	}
	r.weigh(records)
	var hops []ranked
	var last error = ErrNotFound
	for _, s := range records {
		more, err := r.hosts(ctx, s.Target, s.Port, t)
		if err != nil {
			last = err // one dead target does not hide the others
			continue
		}
		for i := range more {
			more[i].rank = s.Priority
		}
		if hops = append(hops, more...); len(hops) >= maxHops {
			return hops[:maxHops], nil
		}
	}
	if len(hops) == 0 {
		return nil, last
	}
	return hops, nil
}

// weigh orders records by priority and, within one, by the lottery of RFC 2782.
func (r *Resolver) weigh(records []*dns.SRV) {
	slices.SortStableFunc(records, func(a, b *dns.SRV) int { return int(a.Priority) - int(b.Priority) })
	for start := 0; start < len(records); {
		end := start + 1
		for end < len(records) && records[end].Priority == records[start].Priority {
			end++
		}
		r.draw(records[start:end])
		start = end
	}
}

func (r *Resolver) draw(group []*dns.SRV) {
	for len(group) > 1 {
		sum := 0
		for _, s := range group {
			sum += int(s.Weight)
		}
		pick := 0
		if sum == 0 { // only weightless ones left: RFC 2782 leaves the order open, we spread evenly
			pick = r.rand(len(group))
		} else {
			// Weightless records are drawn only after the others; that keeps their share «very small».
			for n := r.rand(sum); n >= int(group[pick].Weight); pick++ {
				n -= int(group[pick].Weight)
			}
		}
		group[0], group[pick] = group[pick], group[0]
		group = group[1:]
	}
}

func (r *Resolver) hosts(ctx context.Context, host string, port uint16, t Transport) ([]ranked, error) {
	addrs, err := r.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	hops := make([]ranked, 0, len(addrs))
	for _, a := range addrs {
		hops = append(hops, ranked{Hop: Hop{Addr: netip.AddrPortFrom(a, port), Transport: t}})
	}
	return hops, nil
}

// addresses returns a host's addresses, shuffled, IPv4 before IPv6.
func (r *Resolver) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, ok := ParseHost(host); ok {
		return []netip.Addr{a}, nil
	}
	out, err := r.family(ctx, host, dns.TypeA)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	if len(out) > 0 && !r.ipv6 {
		return out, nil
	}
	six, err := r.family(ctx, host, dns.TypeAAAA)
	if err != nil && !errors.Is(err, ErrNotFound) && len(out) == 0 {
		return nil, err
	}
	if out = append(out, six...); len(out) == 0 {
		return nil, ErrNotFound
	}
	return out, nil
}

func (r *Resolver) family(ctx context.Context, host string, qtype uint16) ([]netip.Addr, error) {
	rrs, err := r.lookup(ctx, host, qtype)
	if err != nil {
		return nil, err
	}
	out := make([]netip.Addr, 0, len(rrs))
	for _, rr := range rrs {
		var a netip.Addr
		var ok bool
		switch rr := rr.(type) {
		case *dns.A:
			a, ok = netip.AddrFromSlice(rr.A.To4())
		case *dns.AAAA:
			a, ok = netip.AddrFromSlice(rr.AAAA)
		}
		if ok {
			out = append(out, a)
		}
	}
	for i := len(out) - 1; i > 0; i-- {
		j := r.rand(i + 1)
		out[i], out[j] = out[j], out[i]
	}
	return out, nil
}
