package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	firstPause = 300 * time.Millisecond // before a lost connection is dialled again
	lastPause  = 3 * time.Second
	lookAgain  = 30 * time.Second // how often the list of peers is looked up
)

// link is a target that is to be connected.
type link struct {
	target Target
	cancel context.CancelFunc
}

// links is the state of connect.
type links struct {
	mu      sync.Mutex
	running map[Target]*link
	black   map[Target]time.Time // until when
	kick    chan struct{}
}

// connect holds connections to the best MaxPeers targets until the context is over.
func (n *Node) connect(ctx context.Context) {
	l := &links{running: map[Target]*link{}, black: map[Target]time.Time{}, kick: make(chan struct{}, 1)}
	var work sync.WaitGroup
	defer work.Wait()
	for ctx.Err() == nil {
		targets, err := n.cfg.Find(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			n.deps.Log.Warn("looking up Diameter peers", "error", err)
		case err == nil:
			n.adjust(ctx, l, targets, &work)
		}
		wait := lookAgain + rand.N(lookAgain/10)
		if err != nil {
			wait = lastPause
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-l.kick:
		}
		timer.Stop()
	}
}

// adjust starts and stops links so that those to the best targets run: as listed, those that failed lately last.
func (n *Node) adjust(ctx context.Context, l *links, targets []Target, work *sync.WaitGroup) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for t, until := range l.black {
		if now.After(until) {
			delete(l.black, t)
		}
	}
	order := slices.Clone(targets)
	slices.SortStableFunc(order, func(a, b Target) int {
		_, x := l.black[a]
		_, y := l.black[b]
		return map[bool]int{true: 1}[x] - map[bool]int{true: 1}[y]
	})
	if n.cfg.MaxPeers > 0 && len(order) > n.cfg.MaxPeers {
		// what runs well stays although the list has been shuffled
		slices.SortStableFunc(order, func(a, b Target) int { return l.cost(a) - l.cost(b) })
		order = order[:n.cfg.MaxPeers]
	}
	for t, one := range l.running {
		if !slices.Contains(order, t) {
			one.cancel()
			delete(l.running, t)
		}
	}
	for _, t := range order {
		if l.running[t] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		l.running[t] = &link{target: t, cancel: cancel}
		work.Go(func() {
			defer cancel()
			n.hold(ctx, t, l)
		})
	}
}

func (l *links) cost(t Target) int {
	_, black := l.black[t]
	switch {
	case black:
		return 2
	case l.running[t] != nil:
		return 0
	}
	return 1
}

// failed notes that a target does not work, so that another one may take its place.
func (l *links) failed(t Target, life time.Duration) {
	l.mu.Lock()
	if _, there := l.running[t]; there && life > 0 {
		l.black[t] = time.Now().Add(life)
	}
	l.mu.Unlock()
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

func (l *links) works(t Target) {
	l.mu.Lock()
	delete(l.black, t)
	l.mu.Unlock()
}

// hold keeps one target connected.
func (n *Node) hold(ctx context.Context, t Target, l *links) {
	var dog watchdog
	pause := firstPause
	for ctx.Err() == nil {
		cause, began := int32(0), time.Now()
		err := n.once(ctx, t, l, &dog, &cause)
		if ctx.Err() != nil {
			return
		}
		n.deps.Log.Warn("Diameter peer is not connected", "address", t.Addr.String(), "error", err)
		if time.Since(began) > lookAgain {
			pause = firstPause
		}
		l.failed(t, n.cfg.Blacklist)
		wait := pause/2 + rand.N(pause)
		if cause > 1 { // BUSY, DO_NOT_WANT_TO_TALK_TO_YOU: RFC 6733 5.4
			wait = max(n.cfg.Blacklist, wait)
		}
		pause = min(pause*2, lastPause*2/3)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// once dials a target and serves the connection until it ends. A context that ends closes it with a DPR.
func (n *Node) once(ctx context.Context, t Target, l *links, dog *watchdog, cause *int32) error {
	dialling, cancel := context.WithTimeout(ctx, n.cfg.Connect)
	defer cancel()
	nc, err := n.dial(dialling, t)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	reader, who, err := n.greet(nc)
	if !stop() || err != nil {
		_ = nc.Close()
		return errors.Join(err, ctx.Err())
	}
	l.works(t)
	c := n.newConn(nc, reader, who, true, *dog)
	defer context.AfterFunc(ctx, c.leave)()
	n.wg.Add(1)
	defer n.wg.Done()
	err = c.serve(context.WithoutCancel(ctx))
	dog.state = down
	*cause = c.cause.Load()
	return err
}

func (n *Node) dial(ctx context.Context, t Target) (net.Conn, error) {
	if n.deps.Dial != nil {
		return n.deps.Dial(ctx, t)
	}
	d := &net.Dialer{KeepAlive: 15 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", t.Addr.String())
	if err != nil || !t.TLS {
		return nc, err //nolint:wrapcheck // it says what and where
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if n.cfg.TLS != nil {
		conf = n.cfg.TLS.Clone()
	}
	if conf.ServerName == "" {
		if conf.ServerName = t.Name; t.Name == "" {
			conf.ServerName = t.Addr.Addr().String()
		}
	}
	secure := tls.Client(nc, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("TLS with the peer %s: %w", t.Addr, err)
	}
	return secure, nil
}

// Serve accepts connections of peers until the context is over or the listener fails. What is accepted lives until Run
// ends.
func (n *Node) Serve(ctx context.Context, ln net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = ln.Close() })()
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // it was closed because of that
			}
			var temporary net.Error
			if errors.As(err, &temporary) && temporary.Timeout() {
				continue
			}
			return fmt.Errorf("accepting Diameter peers: %w", err)
		}
		n.mu.Lock()
		if n.stopping.Load() {
			n.mu.Unlock()
			_ = nc.Close()
			continue
		}
		n.wg.Add(1)
		n.mu.Unlock()
		go func() {
			defer n.wg.Done()
			n.accepted(context.WithoutCancel(ctx), nc)
		}()
	}
}

func (n *Node) accepted(ctx context.Context, nc net.Conn) {
	reader, who, err := n.welcome(nc)
	if err != nil {
		n.deps.Log.Info("Diameter peer refused", "address", nc.RemoteAddr().String(), "error", err)
		_ = nc.Close()
		return
	}
	_ = n.newConn(nc, reader, who, false, watchdog{}).serve(ctx) // it has logged why
}
