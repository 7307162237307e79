// Package enum translates telephone numbers into URIs (RFC 6116): by NAPTR records that it asks name servers for
// (RFC 3403), or by the blocks of enum.json. It also decides which URIs are numbers to translate, and what number
// portability data (RFC 4694) do to the translation.
package enum

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// ErrUnavailable means that no ENUM server gave an answer.
var ErrUnavailable = errors.New("no ENUM server answered")

// ErrLoop means that non-terminal rules led on more often than RFC 6116 demands of a client.
var ErrLoop = errors.New("ENUM rules lead in a circle")

const (
	maxServers = 3
	maxPasses  = 5 // non-terminal rules in a row, and the terminal one
	minWait    = 500 * time.Millisecond
	maxWait    = 1000 * time.Millisecond
)

// Config is what an operator can set. The zero value translates nothing.
type Config struct {
	Servers []string // enum_server: at most three, addr or addr:port; always asked in this order
	Suffix  string   // enum_suffix; e164.arpa if empty
	Share   bool     // enum_share_by_preference: of rules of one order take each as often as its preference says, instead of the lowest
	Policy  Policy
}

// Deps is what a Client works with. All may be left out.
type Deps struct {
	Now     func() time.Time
	Wait    func() time.Duration // for how long a server is waited for; random from 500 to 1000 ms if nil
	Rand    func(n int) int      // uniform in [0, n)
	Metrics prometheus.Registerer
}

// Result is what a number is translated into. Found is false when no rule is for it.
type Result struct {
	URI   sip.URI
	Found bool
}

// Client translates numbers. It is safe for concurrent use and owns no goroutine beyond running questions.
type Client struct {
	deps     Deps
	settings atomic.Pointer[settings]
	file     atomic.Pointer[blocks]
	lookups  *prometheus.CounterVec
	asked    *prometheus.CounterVec
}

// settings are a checked Config and what was learnt under it.
type settings struct {
	Config
	servers []string
	cache   *cache
}

// New makes a Client.
func New(cfg Config, deps Deps) (*Client, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Rand == nil {
		deps.Rand = rand.IntN
	}
	if deps.Wait == nil {
		deps.Wait = func() time.Duration { return minWait + rand.N(maxWait-minWait+1) }
	}
	c := &Client{deps: deps, lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ims_enum_lookups_total", Help: "Numbers looked up, by result: found, absent, failure.",
	}, []string{"result"}), asked: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ims_enum_queries_total", Help: "Questions put to ENUM servers, by server and result: answer, failure.",
	}, []string{"server", "result"})}
	if deps.Metrics != nil {
		deps.Metrics.MustRegister(c.lookups, c.asked)
	}
	c.file.Store(&blocks{})
	return c, c.SetConfig(cfg)
}

// SetConfig takes changed options; what is cached stays while servers and suffix do. After an error the old ones stay
// in force.
func (c *Client) SetConfig(cfg Config) error {
	if len(cfg.Servers) > maxServers {
		return fmt.Errorf("reading enum_server: %d servers given, at most %d allowed", len(cfg.Servers), maxServers)
	}
	s := &settings{Config: cfg, cache: &cache{}}
	for _, text := range cfg.Servers {
		addr, err := netip.ParseAddrPort(text)
		if err != nil {
			ip, err := netip.ParseAddr(text)
			if err != nil {
				return fmt.Errorf("reading enum_server: %q is neither an address nor address:port", text)
			}
			addr = netip.AddrPortFrom(ip, 53)
		}
		s.servers = append(s.servers, addr.String())
	}
	if s.Suffix = strings.ToLower(strings.Trim(cfg.Suffix, ".")); s.Suffix == "" {
		s.Suffix = "e164.arpa"
	}
	if old := c.settings.Load(); old != nil && slices.Equal(old.servers, s.servers) && old.Suffix == s.Suffix {
		s.cache = old.cache
	}
	c.settings.Store(s)
	return nil
}

// SetFile takes the text of enum.json; "" has no rules. After an error the old document stays in force. The document is
// used when no server is configured.
func (c *Client) SetFile(text string) error {
	b, err := parseBlocks(text)
	if err != nil {
		return err
	}
	c.file.Store(b)
	return nil
}

// Lookup translates a number, whose visual separators count for nothing; a leading + counts for rules but not for the
// name that is asked for. That nothing is known of it is no error. Errors: ErrUnavailable, ErrLoop, or that of ctx.
func (c *Client) Lookup(ctx context.Context, number string) (Result, error) {
	s := c.settings.Load()
	if len(s.servers) == 0 && len(c.file.Load().list) == 0 {
		return Result{}, nil // not in use
	}
	number = sip.URI{Scheme: "tel", User: number}.Number()
	var result Result
	var err error
	if len(s.servers) > 0 {
		result, err = c.byName(ctx, s, number)
	} else {
		result = c.file.Load().lookup(number)
	}
	switch {
	case err != nil:
		c.lookups.WithLabelValues("failure").Inc()
		return Result{}, fmt.Errorf("looking up %s: %w", number, err)
	case result.Found:
		c.lookups.WithLabelValues("found").Inc()
	default:
		c.lookups.WithLabelValues("absent").Inc()
	}
	return result, nil
}

// byName follows the rules that the servers have from name to name.
func (c *Client) byName(ctx context.Context, s *settings, number string) (Result, error) {
	name := nameOf(number, s.Suffix)
	for range maxPasses + 1 {
		if _, ok := dns.IsDomainName(name); !ok || name == "" {
			return Result{}, nil
		}
		rules, err := c.rules(ctx, s, name)
		if err != nil {
			return Result{}, err
		}
		if s.Share {
			rules = shuffled(rules, c.deps.Rand)
		}
		out, ok := apply(rules, number)
		if !ok || out.found() {
			return Result{URI: out.uri, Found: ok}, nil
		}
		if name = out.name; out.number != "" {
			number = out.number
			name = nameOf(number, s.Suffix)
		}
	}
	return Result{}, ErrLoop
}

// nameOf is the domain name of a number (RFC 6116 3.2): its digits backwards. "" if it has none.
func nameOf(number, suffix string) string {
	var b strings.Builder
	for i := len(number) - 1; i >= 0; i-- {
		if c := number[i]; c >= '0' && c <= '9' {
			b.WriteByte(c)
			b.WriteByte('.')
		}
	}
	if b.Len() == 0 || b.Len()+len(suffix) > 253 {
		return ""
	}
	return b.String() + suffix
}
