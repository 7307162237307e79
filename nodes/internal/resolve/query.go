package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/miekg/dns"
)

// server is one name server; rest is until when (Unix nanoseconds) it is asked last because it was silent.
type server struct {
	addr string
	rest atomic.Int64
}

// ask puts a question to the servers in order, those that were silent lately last, each once, for dns_timeout.
func (r *Resolver) ask(ctx context.Context, q question) (*dns.Msg, error) {
	var failures []error
	now := r.now()
	for _, resting := range []bool{false, true} {
		for _, s := range r.servers {
			if (now.UnixNano() < s.rest.Load()) != resting {
				continue
			}
			msg, err := r.exchange(ctx, s.addr, q)
			if err == nil {
				s.rest.Store(0)
				r.metrics.queries.WithLabelValues(result(msg)).Inc()
				return msg, nil
			}
			s.rest.Store(now.Add(serverRest).UnixNano())
			r.metrics.queries.WithLabelValues("failure").Inc()
			failures = append(failures, err)
		}
	}
	return nil, errors.Join(failures...)
}

// exchange asks one server, over UDP and, if the answer was cut, over TCP. SERVFAIL, REFUSED and the like are errors,
// so that the next server is asked.
func (r *Resolver) exchange(ctx context.Context, addr string, q question) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.qtype)
	m.SetEdns0(1232, false)
	msg, err := r.once(ctx, "udp", addr, m)
	if err == nil && msg.Truncated {
		msg, err = r.once(ctx, "tcp", addr, m)
	}
	if err != nil {
		return nil, fmt.Errorf("asking %s for %s: %w", addr, q.name, err)
	}
	if msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("asking %s for %s: %s", addr, q.name, dns.RcodeToString[msg.Rcode])
	}
	return msg, nil
}

func (r *Resolver) once(ctx context.Context, network, addr string, m *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	client := &dns.Client{Net: network, Dialer: &net.Dialer{Timeout: r.timeout}, ReadTimeout: r.timeout, WriteTimeout: r.timeout}
	msg, _, err := client.ExchangeContext(ctx, m, addr)
	return msg, err
}

func result(msg *dns.Msg) string {
	if msg.Rcode == dns.RcodeNameError || len(msg.Answer) == 0 {
		return "absent"
	}
	return "found"
}
