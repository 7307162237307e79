package aws

import (
	"context"
	"fmt"
	"net"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/miekg/dns"
)

// names answers DNS from the emulator's hosted zones, as they are at the moment of the question. Of weighted sets the
// first is answered: with one site there is one.
type names struct {
	route53 *route53.Client
}

// serve listens on UDP and TCP until ctx ends.
func (n *names) serve(ctx context.Context, address string) error {
	packets, err := (&net.ListenConfig{}).ListenPacket(ctx, "udp", address)
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", packets.LocalAddr().String())
	if err != nil {
		return err
	}
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: n}, {Listener: listener, Handler: n}} {
		go func() { _ = server.ActivateAndServe() }()
		context.AfterFunc(ctx, func() { _ = server.Shutdown() })
	}
	return nil
}

// ServeDNS implements dns.Handler.
func (n *names) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	answer := new(dns.Msg).SetReply(q)
	answer.Authoritative = true
	if err := n.answer(context.Background(), q.Question[0], answer); err != nil {
		answer.Rcode = dns.RcodeServerFailure
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		answer.Truncate(size)
	}
	_ = w.WriteMsg(answer)
}

func (n *names) answer(ctx context.Context, q dns.Question, out *dns.Msg) error {
	zones, err := n.route53.ListHostedZones(ctx, &route53.ListHostedZonesInput{})
	if err != nil {
		return err
	}
	out.Rcode = dns.RcodeNameError
	for _, z := range zones.HostedZones {
		if !dns.IsSubDomain(awssdk.ToString(z.Name), q.Name) {
			continue
		}
		pages := route53.NewListResourceRecordSetsPaginator(n.route53, &route53.ListResourceRecordSetsInput{HostedZoneId: z.Id})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, s := range page.ResourceRecordSets {
				if err := add(s, q, out); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func add(s types.ResourceRecordSet, q dns.Question, out *dns.Msg) error {
	name := awssdk.ToString(s.Name)
	if !strings.EqualFold(name, q.Name) && !dns.IsSubDomain(q.Name, name) {
		return nil
	}
	out.Rcode = dns.RcodeSuccess // the name exists, or something below it
	if !strings.EqualFold(name, q.Name) || string(s.Type) != dns.TypeToString[q.Qtype] || len(out.Answer) > 0 {
		return nil
	}
	for _, v := range s.ResourceRecords {
		rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", name, awssdk.ToInt64(s.TTL), s.Type, awssdk.ToString(v.Value)))
		if err != nil {
			return err
		}
		out.Answer = append(out.Answer, rr)
	}
	return nil
}
