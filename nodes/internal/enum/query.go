package enum

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

const (
	maxEntries  = 20000           // numbers come from outside, so the cache is bounded
	maxTTL      = 24 * time.Hour  // a longer TTL is cut
	maxNegative = 5 * time.Minute // so is the time for which a number is believed to be absent
	negativeTTL = 5 * time.Second // when the zone gives no SOA
	failureTTL  = 2 * time.Second // so long a failure is not tried again: each function that a request passes looks up for itself
	maxChain    = 8               // CNAMEs in one answer
)

type entry struct {
	rules   []rule
	err     error
	expires time.Time
}

// cache keeps rules by name. The zero value is ready.
type cache struct {
	mu      sync.Mutex
	entries map[string]entry
	flights singleflight.Group
}

func (c *cache) get(name string, now time.Time) (entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[name]
	return e, ok && now.Before(e.expires)
}

func (c *cache) put(name string, e entry, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = map[string]entry{}
	}
	if len(c.entries) >= maxEntries {
		for n, old := range c.entries { // what is past its time, and a tenth of the others
			if now.After(old.expires) || len(c.entries) > maxEntries*9/10 {
				delete(c.entries, n)
			}
		}
	}
	c.entries[name] = e
}

// rules are those of a name, from the cache or the servers. Many that ask at once share one question.
func (c *Client) rules(ctx context.Context, s *settings, name string) ([]rule, error) {
	if e, ok := s.cache.get(name, c.deps.Now()); ok {
		return e.rules, e.err
	}
	flight := s.cache.flights.DoChan(name, func() (any, error) {
		msg, err := c.ask(context.WithoutCancel(ctx), s.servers, name)
		e, now := entry{err: err}, c.deps.Now()
		if e.expires = now.Add(failureTTL); err == nil {
			rrs, ttl := answer(msg, name)
			e = entry{rules: rulesOf(rrs), expires: now.Add(ttl)}
		}
		s.cache.put(name, e, now)
		return e.rules, e.err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-flight:
		rules, _ := r.Val.([]rule)
		return rules, r.Err
	}
}

// ask puts the question to the servers in order, each once.
func (c *Client) ask(ctx context.Context, servers []string, name string) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), dns.TypeNAPTR)
	m.SetEdns0(1232, false)
	failures := []error{ErrUnavailable}
	for _, server := range servers {
		msg, err := c.exchange(ctx, server, m)
		if err == nil {
			c.asked.WithLabelValues(server, "answer").Inc()
			return msg, nil
		}
		c.asked.WithLabelValues(server, "failure").Inc()
		failures = append(failures, fmt.Errorf("asking %s for %s: %w", server, name, err))
	}
	return nil, errors.Join(failures...)
}

// exchange asks one server, over UDP and, if the answer was cut, over TCP. SERVFAIL, REFUSED and the like are errors.
func (c *Client) exchange(ctx context.Context, server string, m *dns.Msg) (*dns.Msg, error) {
	wait := c.deps.Wait()
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	once := func(network string) (*dns.Msg, error) {
		client := &dns.Client{Net: network, Dialer: &net.Dialer{Timeout: wait}, ReadTimeout: wait, WriteTimeout: wait}
		msg, _, err := client.ExchangeContext(ctx, m, server)
		return msg, err
	}
	msg, err := once("udp")
	if err == nil && msg.Truncated {
		msg, err = once("tcp")
	}
	switch {
	case err != nil:
		return nil, err
	case msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError:
		return nil, errors.New(dns.RcodeToString[msg.Rcode])
	}
	return msg, nil
}

// answer picks the NAPTR records of a name, CNAMEs followed, and for how long they hold.
func answer(msg *dns.Msg, name string) ([]dns.RR, time.Duration) {
	ttl := maxTTL
	name = dns.CanonicalName(name)
	for range maxChain {
		var found []dns.RR
		next := ""
		for _, rr := range msg.Answer {
			if dns.CanonicalName(rr.Header().Name) != name {
				continue
			}
			switch rr := rr.(type) {
			case *dns.NAPTR:
				found = append(found, rr)
			case *dns.CNAME:
				next = dns.CanonicalName(rr.Target)
			default:
				continue
			}
			ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
		}
		if len(found) > 0 {
			return found, ttl
		}
		if next == "" {
			break
		}
		name = next
	}
	for _, rr := range msg.Ns {
		if soa, ok := rr.(*dns.SOA); ok { // RFC 2308 section 5
			return nil, min(ttl, maxNegative, time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second)
		}
	}
	return nil, min(ttl, negativeTTL)
}
