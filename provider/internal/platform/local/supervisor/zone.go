package supervisor

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/miekg/dns"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// zone is one consistent set of records; it is never changed, only replaced.
type zone struct {
	origin  string // lower case, with the final dot
	soa     dns.RR
	records map[string]map[uint16][]dns.RR // by owner name and type
	parents map[string]bool                // names that have something below them (empty non-terminals, RFC 8020)
}

// newZone parses record sets. A record outside the zone, or one that does not parse, fails the whole.
func newZone(origin, server string, serial uint32, negativeTTL int, sets []platform.RecordSet) (*zone, error) {
	origin = dns.CanonicalName(origin)
	z := &zone{origin: origin, records: map[string]map[uint16][]dns.RR{}, parents: map[string]bool{}}
	lines := []string{
		fmt.Sprintf("%s %d IN SOA ns.%s hostmaster.%s %d 60 10 86400 %d", origin, negativeTTL, origin, origin, serial, negativeTTL),
		fmt.Sprintf("%s %d IN NS ns.%s", origin, negativeTTL, origin),
		fmt.Sprintf("ns.%s %d IN A %s", origin, negativeTTL, server),
	}
	for _, set := range sets {
		for _, r := range set.Records {
			lines = append(lines, fmt.Sprintf("%s %d IN %s %s", r.Name, r.TTL, r.Type, r.Value))
		}
	}
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil || rr == nil {
			return nil, fmt.Errorf("record %q: %w", line, err)
		}
		if err := z.add(rr); err != nil {
			return nil, err
		}
	}
	z.soa = z.records[origin][dns.TypeSOA][0]
	return z, nil
}

func (z *zone) add(rr dns.RR) error {
	name := dns.CanonicalName(rr.Header().Name)
	if !dns.IsSubDomain(z.origin, name) {
		return fmt.Errorf("record %s: not in zone %s", rr, z.origin)
	}
	types := z.records[name]
	if types == nil {
		types = map[uint16][]dns.RR{}
		z.records[name] = types
	}
	kind := rr.Header().Rrtype
	for _, known := range types[kind] {
		if dns.IsDuplicate(known, rr) {
			return nil
		}
	}
	types[kind] = append(types[kind], rr)
	for parent := name; parent != z.origin; {
		_, parent, _ = strings.Cut(parent, ".")
		z.parents[parent] = true
	}
	return nil
}

// answer is the reply to a query. It is authoritative for the zone and for nothing else (REFUSED).
func (z *zone) answer(query *dns.Msg) *dns.Msg {
	reply := new(dns.Msg)
	if query.Opcode != dns.OpcodeQuery {
		return reply.SetRcode(query, dns.RcodeNotImplemented)
	}
	if len(query.Question) != 1 {
		return reply.SetRcode(query, dns.RcodeFormatError)
	}
	question := query.Question[0]
	name := dns.CanonicalName(question.Name)
	transfer := question.Qtype == dns.TypeAXFR || question.Qtype == dns.TypeIXFR
	if !dns.IsSubDomain(z.origin, name) || question.Qclass != dns.ClassINET || transfer {
		return reply.SetRcode(query, dns.RcodeRefused)
	}
	reply.SetReply(query)
	reply.Authoritative = true
	if option := query.IsEdns0(); option != nil {
		reply.SetEdns0(4096, false)
	}
	types, exists := z.records[name]
	reply.Answer = shuffled(types[question.Qtype])
	if question.Qtype == dns.TypeANY {
		for _, rrs := range types {
			reply.Answer = append(reply.Answer, rrs...)
		}
	}
	if len(reply.Answer) == 0 {
		if !exists && !z.parents[name] {
			reply.Rcode = dns.RcodeNameError
		}
		reply.Ns = []dns.RR{z.soa}
		return reply
	}
	reply.Extra = append(z.additional(reply.Answer), reply.Extra...)
	return reply
}

// additional gives the addresses of SRV targets (RFC 2782), which saves the asker a query.
func (z *zone) additional(answers []dns.RR) (out []dns.RR) {
	seen := map[string]bool{}
	for _, rr := range answers {
		srv, ok := rr.(*dns.SRV)
		if !ok || seen[srv.Target] {
			continue
		}
		seen[srv.Target] = true
		types := z.records[dns.CanonicalName(srv.Target)]
		out = append(append(out, types[dns.TypeA]...), types[dns.TypeAAAA]...)
	}
	return out
}

// shuffled spreads load over askers that take the first record.
func shuffled(rrs []dns.RR) []dns.RR {
	out := append([]dns.RR(nil), rrs...)
	rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] }) //nolint:gosec // spreading load, not a secret
	return out
}
