package transport

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
)

type destination struct {
	mu     sync.Mutex
	hops   []resolve.Hop
	failed map[resolve.Hop]int
}

func (d *destination) set(hops ...resolve.Hop) { d.mu.Lock(); defer d.mu.Unlock(); d.hops = hops }

func (d *destination) Preferred(context.Context) ([]resolve.Hop, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]resolve.Hop(nil), d.hops...), nil
}

func (d *destination) Report(hop resolve.Hop, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !ok {
		d.failed[hop]++
	}
}

func (p *Pool) counts() map[resolve.Hop]int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := map[resolve.Hop]int{}
	for _, s := range p.slots {
		if s.conn.state() == stateOpen {
			out[s.hop]++
		}
	}
	return out
}

func TestPoolFollowsItsDestination(t *testing.T) {
	a, _, _ := serve(t, Config{}, make(collector, 1), nil)
	server := func(addr string) (resolve.Hop, *Layer, func()) {
		l, err := New(Config{Listeners: []Listener{{"t", resolve.TCP, netip.MustParseAddrPort(addr)}}}, Deps{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = l.Run(ctx, make(collector, 100)) }()
		stop := sync.OnceFunc(func() { cancel(); <-done })
		t.Cleanup(stop)
		return resolve.Hop{Addr: l.Listeners()[0].Addr, Transport: resolve.TCP}, l, stop
	}
	one, _, _ := server("127.23.3.1:0")
	two, twoLayer, stopTwo := server("127.23.3.2:0")
	dest := &destination{failed: map[resolve.Hop]int{}}
	dest.set(one)
	p := a.NewPool(PoolConfig{Size: 10, Refresh: 10 * time.Millisecond, Retire: 50 * time.Millisecond}, dest)
	if _, ok := p.Flow(one); ok || p.Ready() == nil {
		t.Error("an empty pool claims to be ready")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	defer func() { cancel(); <-done }()

	waitFor(t, func() bool { return p.counts()[one] == 10 && p.Ready() == nil })
	dest.set(one, two) // a new server gets its share
	waitFor(t, func() bool { c := p.counts(); return c[one] == 5 && c[two] == 5 })
	seen := map[*Flow]bool{}
	for range 5 {
		f, ok := p.Flow(two)
		if !ok || f.Remote() != two.Addr {
			t.Fatalf("flow %v %v", f, ok)
		}
		seen[f] = true
	}
	if len(seen) != 5 {
		t.Errorf("%d connections took turns, want 5", len(seen))
	}
	dest.set(two) // and one that leaves loses its own
	waitFor(t, func() bool { c := p.counts(); return c[one] == 0 && c[two] == 10 })
	waitFor(t, func() bool {
		twoLayer.mu.RLock()
		defer twoLayer.mu.RUnlock()
		return len(twoLayer.bySerial) == 10
	})
	stopTwo() // death: connecting fails and is reported
	waitFor(t, func() bool {
		dest.mu.Lock()
		defer dest.mu.Unlock()
		return dest.failed[two] > 0
	})
	dest.set(one)
	waitFor(t, func() bool { return p.counts()[one] == 10 })
}

func TestPoolRecycles(t *testing.T) {
	a, _, _ := serve(t, Config{}, make(collector, 1), nil)
	_, _, tcp := serve(t, Config{}, make(collector, 1), nil)
	hop := resolve.Hop{Addr: tcp, Transport: resolve.TCP}
	dest := &destination{failed: map[resolve.Hop]int{}}
	dest.set(hop)
	p := a.NewPool(PoolConfig{Size: 2, Refresh: 5 * time.Millisecond, Recycle: 50 * time.Millisecond, Retire: time.Millisecond}, dest)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	defer func() { cancel(); <-done }()
	waitFor(t, func() bool { return p.counts()[hop] == 2 })
	old, _ := p.Flow(hop)
	waitFor(t, old.Closed)
	waitFor(t, func() bool { return p.counts()[hop] == 2 })
}
