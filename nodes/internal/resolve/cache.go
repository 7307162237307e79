package resolve

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	maxEntries  = 20000            // names can come from outside (Request-URIs), so the cache is bounded
	maxTTL      = 24 * time.Hour   // a longer TTL is cut
	negativeTTL = 5 * time.Second  // when the zone gives no SOA; also the cap, so that a new name is seen soon
	staleKeep   = 24 * time.Hour   // how long an answer may outlive its TTL while the servers are away
	staleRetry  = 2 * time.Second  // how soon the servers are asked again while a stale answer is served
	maxChain    = 8                // CNAMEs
	serverRest  = 10 * time.Second // how long a silent server is asked last
)

type question struct {
	name  string
	qtype uint16
}

type answer struct {
	rrs     []dns.RR // empty: the name has no such record
	expires time.Time
	dropped time.Time // end of the stale period
}

// cache keeps answers by question. The zero value is ready.
type cache struct {
	mu      sync.RWMutex
	answers map[question]answer
}

func (c *cache) get(q question) (answer, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	a, ok := c.answers[q]
	return a, ok
}

func (c *cache) put(q question, a answer, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers == nil {
		c.answers = map[question]answer{}
	}
	if len(c.answers) >= maxEntries {
		c.shrink(now)
	}
	c.answers[q] = a
}

// shrink drops what is past its TTL; if that frees too little, whatever the map yields first.
func (c *cache) shrink(now time.Time) {
	for q, a := range c.answers {
		if now.After(a.expires) {
			delete(c.answers, q)
		}
	}
	for q := range c.answers {
		if len(c.answers) < maxEntries*9/10 {
			return
		}
		delete(c.answers, q)
	}
}

// lookup returns the records of one type, from the cache or the servers, overrides and CNAMEs followed.
func (r *Resolver) lookup(ctx context.Context, name string, qtype uint16) ([]dns.RR, error) {
	name = strings.ToLower(dns.Fqdn(name))
	for range maxChain {
		name = r.override(name)
		rrs, err := r.cached(ctx, question{name, qtype})
		if err != nil {
			return nil, err
		}
		next := ""
		for _, rr := range rrs {
			if c, ok := rr.(*dns.CNAME); ok {
				next = strings.ToLower(c.Target)
			}
		}
		switch {
		case next != "":
			name = next
		case len(rrs) == 0:
			return nil, ErrNotFound
		default:
			return rrs, nil
		}
	}
	return nil, ErrNotFound
}

func (r *Resolver) cached(ctx context.Context, q question) ([]dns.RR, error) {
	if a, ok := r.cache.get(q); ok && r.now().Before(a.expires) {
		return a.rrs, nil
	}
	key := q.name + dns.TypeToString[q.qtype]
	// The question outlives a caller that gives up: others may wait for it, and the answer is worth keeping.
	flight := r.flights.DoChan(key, func() (any, error) { return r.refresh(context.WithoutCancel(ctx), q) })
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case res := <-flight:
		rrs, _ := res.Val.([]dns.RR)
		return rrs, res.Err
	}
}

// refresh asks the servers and stores what they say; if none says anything a stale answer goes on being used.
func (r *Resolver) refresh(ctx context.Context, q question) ([]dns.RR, error) {
	old, known := r.cache.get(q)
	if known && r.now().Before(old.expires) {
		return old.rrs, nil // another flight stored it between our look and our turn
	}
	msg, err := r.ask(ctx, q)
	now := r.now()
	if err != nil {
		if known && now.Before(old.dropped) {
			r.metrics.stale.Inc()
			old.expires = now.Add(staleRetry)
			r.cache.put(q, old, now)
			return old.rrs, nil
		}
		return nil, errors.Join(ErrUnavailable, err)
	}
	rrs, ttl := extract(msg, q)
	r.cache.put(q, answer{rrs, now.Add(ttl), now.Add(ttl + staleKeep)}, now)
	return rrs, nil
}

// extract picks the records that answer the question. If the answer ends in a CNAME whose target it does not hold,
// that CNAME is the result.
func extract(msg *dns.Msg, q question) (rrs []dns.RR, ttl time.Duration) {
	ttl = maxTTL
	name := q.name
	var tail dns.RR
	for range maxChain {
		tail = nil
		for _, rr := range msg.Answer {
			h := rr.Header()
			if !strings.EqualFold(h.Name, name) || h.Class != dns.ClassINET {
				continue
			}
			if h.Rrtype == q.qtype {
				rrs = append(rrs, rr)
			} else if h.Rrtype != dns.TypeCNAME {
				continue
			} else {
				tail = rr
			}
			ttl = min(ttl, time.Duration(h.Ttl)*time.Second)
		}
		c, ok := tail.(*dns.CNAME)
		if len(rrs) > 0 || !ok || !holds(msg, c.Target) {
			break
		}
		name = c.Target
	}
	switch {
	case len(rrs) > 0:
		return rrs, ttl
	case tail != nil:
		return []dns.RR{tail}, ttl
	}
	return nil, negative(msg)
}

func holds(msg *dns.Msg, name string) bool {
	for _, rr := range msg.Answer {
		if strings.EqualFold(rr.Header().Name, name) {
			return true
		}
	}
	return false
}

// negative is how long the absence of a record may be believed (RFC 2308 section 5).
func negative(msg *dns.Msg) time.Duration {
	for _, rr := range msg.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(negativeTTL, time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second)
		}
	}
	return negativeTTL
}
