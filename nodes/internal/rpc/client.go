package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ClientConfig says whom to call and how. Only Resolve must be set.
type ClientConfig struct {
	// Name of the called cluster in metrics and errors, such as "store".
	Name string
	// Resolve returns the servers' addresses; it is asked again every Refresh and when a connection fails.
	Resolve func(ctx context.Context) ([]netip.AddrPort, error)
	// TLS is the client side of mutual TLS (identity.Client); nil means none, for tests within one process.
	TLS *tls.Config
	// Blacklist is how long a server that answered Unavailable is avoided while others are there. Default 30 s.
	Blacklist time.Duration
	// Timeout bounds calls whose context has no deadline. Default 5 s.
	Timeout time.Duration
	// Refresh is the interval of Resolve. Default 5 s (the TTL of cluster names).
	Refresh time.Duration
	// RetryInterrupted repeats a call on another server when the connection died in mid-call. Set it only if every
	// method called is idempotent.
	RetryInterrupted bool
	// Metrics registers call counters when set; MethodNames are their labels.
	Metrics     prometheus.Registerer
	MethodNames map[Method]string
	Log         *slog.Logger
}

// Client calls methods on a cluster of equal servers.
type Client struct {
	cfg     ClientConfig
	metrics *clientMetrics
	next    atomic.Uint32
	servers atomic.Pointer[[]*server] // replaced as a whole
	again   chan struct{}             // capacity 1: resolve now

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced when a server's state or the list changes
	resolved   bool
	resolveErr error
}

// NewClient prepares a client; Run makes it work.
func NewClient(cfg ClientConfig) *Client {
	cfg.Blacklist = orDefault(cfg.Blacklist, 30*time.Second)
	cfg.Timeout = orDefault(cfg.Timeout, 5*time.Second)
	cfg.Refresh = orDefault(cfg.Refresh, 5*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Name == "" {
		cfg.Name = "server"
	}
	c := &Client{cfg: cfg, changed: make(chan struct{}), again: make(chan struct{}, 1)}
	c.metrics = newClientMetrics(cfg)
	c.servers.Store(&[]*server{})
	return c
}

func orDefault(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

// Run keeps connections to the resolved servers until ctx ends, then closes them and returns nil.
func (c *Client) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	tick := time.NewTicker(c.cfg.Refresh)
	defer tick.Stop()
	for {
		c.refresh(ctx, &wg)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-c.again:
			// A server is gone: its address may be too. One look per 100 ms is enough.
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// refresh resolves, starts what is new and lets go of what is no longer named.
func (c *Client) refresh(ctx context.Context, wg *sync.WaitGroup) {
	resolveCtx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	addrs, err := c.cfg.Resolve(resolveCtx)
	if ctx.Err() != nil {
		return
	}
	if err == nil && len(addrs) == 0 {
		err = errors.New("the name has no address")
	}
	if err != nil {
		if len(*c.servers.Load()) == 0 {
			c.cfg.Log.Warn("resolving servers", "cluster", c.cfg.Name, "error", err)
		}
		c.setResolved(err) // what was known before stays in use
		return
	}
	old := map[netip.AddrPort]*server{}
	for _, s := range *c.servers.Load() {
		old[s.addr] = s
	}
	list := make([]*server, 0, len(addrs))
	for _, addr := range addrs {
		s, known := old[addr]
		delete(old, addr)
		if !known {
			s = newServer(c, addr)
			wg.Go(func() { s.run(ctx) })
		}
		list = append(list, s)
	}
	c.servers.Store(&list)
	for _, s := range old {
		s.retire()
	}
	c.setResolved(nil)
}

// Ready returns nil if a server can be called now, else why not.
func (c *Client) Ready() error {
	for _, s := range *c.servers.Load() {
		if s.state.Load() == stateUp {
			return nil
		}
	}
	c.mu.Lock()
	err := c.resolveErr
	c.mu.Unlock()
	return c.noServer(err)
}

func (c *Client) setResolved(err error) {
	c.mu.Lock()
	c.resolved, c.resolveErr = true, err
	c.mu.Unlock()
	c.notify()
}

// notify wakes calls that wait for a server.
func (c *Client) notify() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Client) resolveSoon() {
	select {
	case c.again <- struct{}{}:
	default:
	}
}

// Call sends req to one of the servers and returns its answer. It moves to another server when one cannot take
// the call. Errors: ErrUnavailable, ErrTimeout, ErrInterrupted, *StatusError, or the context's.
func (c *Client) Call(ctx context.Context, m Method, req []byte) ([]byte, error) {
	var out []byte
	err := c.do(ctx, m, req, func(answer []byte) error {
		out = append([]byte(nil), answer...)
		return nil
	})
	return out, err
}

// do is Call with the answer lent to take, which must not keep it.
func (c *Client) do(ctx context.Context, m Method, req []byte, take func([]byte) error) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.Timeout)
		defer cancel()
	}
	started := time.Now()
	status, err := c.attempt(ctx, m, req, take)
	c.metrics.done(m, status, err, time.Since(started))
	if err != nil {
		return fmt.Errorf("calling %s: %w", c.cfg.Name, err)
	}
	return nil
}

// attempt tries servers until one answers something other than Unavailable.
func (c *Client) attempt(ctx context.Context, m Method, req []byte, take func([]byte) error) (uint16, error) {
	if len(req) > MaxPayload {
		return StatusTooLarge, &StatusError{StatusTooLarge, fmt.Sprintf("the request has %d bytes, at most %d can be sent", len(req), MaxPayload)}
	}
	var tried []*server
	var last error
	for {
		s, err := c.pick(ctx, tried)
		if err != nil {
			if last != nil && errors.Is(err, ErrUnavailable) {
				err = last
			}
			return StatusUnavailable, err
		}
		status, err := s.call(ctx, m, req, take)
		switch {
		case err == nil && status == StatusOK:
			return status, nil
		case errors.Is(err, ErrInterrupted) && !c.cfg.RetryInterrupted:
			return status, err
		case errors.Is(err, ErrUnavailable):
			tried, last = append(tried, s), fmt.Errorf("%s: %w", s.addr, err)
			c.metrics.failovers.Inc()
		default:
			return status, err
		}
	}
}

// pick returns the next server that is up and not tried, in turn; blacklisted ones only if there is nothing else.
// It waits while a first connection is still being made.
func (c *Client) pick(ctx context.Context, tried []*server) (*server, error) {
	for {
		c.mu.Lock()
		changed, resolved, resolveErr := c.changed, c.resolved, c.resolveErr
		c.mu.Unlock()
		s, pending := c.choose(tried)
		if s != nil {
			return s, nil
		}
		if resolved && !pending {
			return nil, c.noServer(resolveErr)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, timeoutError(ctx)
		}
	}
}

// choose looks over the servers once; pending says that one may be up in a moment.
func (c *Client) choose(tried []*server) (best *server, pending bool) {
	servers := *c.servers.Load()
	if len(servers) == 0 {
		return nil, false
	}
	start := int(c.next.Add(1))
	now := time.Now().UnixNano()
	for i := range servers {
		s := servers[(start+i)%len(servers)]
		if contains(tried, s) {
			continue
		}
		switch s.state.Load() {
		case stateUp:
			if s.avoidUntil.Load() <= now {
				return s, false
			}
			if best == nil {
				best = s
			}
		case stateConnecting:
			pending = true
		}
	}
	return best, pending
}

func contains(list []*server, s *server) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func (c *Client) noServer(resolveErr error) error {
	servers := *c.servers.Load()
	if len(servers) == 0 && resolveErr != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, resolveErr)
	}
	var reasons []error
	for _, s := range servers {
		if err := s.lastError(); err != nil {
			reasons = append(reasons, fmt.Errorf("%s: %w", s.addr, err))
		}
	}
	if len(reasons) == 0 {
		return ErrUnavailable
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, errors.Join(reasons...))
}
