package cassandra

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	firstPause = time.Second // before a Cassandra that died is started again
	lastPause  = 15 * time.Second
	settled    = time.Minute // one that ran this long starts again without a longer pause
	refresh    = time.Minute // how often renewed certificates are looked for
)

// JMX is how nodetool reaches the running process: on 127.0.0.1, with a password of this start.
type JMX struct {
	Port     int
	Password string
}

// Supervisor keeps this node's Cassandra running.
type Supervisor struct {
	Node   func() Node // asked at every start
	Output io.Writer   // what the Java machine prints
	Log    *slog.Logger

	restarts atomic.Int64
	pid      atomic.Int64

	mu     sync.Mutex
	jmx    JMX
	reason error
}

// Restarts is how often it was started again after it had died.
func (s *Supervisor) Restarts() int64 { return s.restarts.Load() }

// PID is the process id, 0 while none runs.
func (s *Supervisor) PID() int { return int(s.pid.Load()) }

// Reason is why the last process ended; nil if none has.
func (s *Supervisor) Reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reason
}

// JMX is how the present process is reached.
func (s *Supervisor) JMX() JMX {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jmx
}

// Run starts Cassandra, and again whenever it ends, until ctx ends; then it ends it in order and returns. Should this
// program die, Cassandra ends in order too; one that is left over is waited for before another is started.
func (s *Supervisor) Run(ctx context.Context) error {
	pause := firstPause
	for {
		started := time.Now()
		err := s.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(started) > settled {
			pause = firstPause
		}
		s.mu.Lock()
		s.reason = err
		s.mu.Unlock()
		s.Log.Error("Cassandra ended, starting it again", "error", err, "in", pause.String())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		s.restarts.Add(1)
		pause = min(pause*2, lastPause)
	}
}

// once runs Cassandra until it ends or ctx does.
func (s *Supervisor) once(ctx context.Context) error {
	n := s.Node()
	if err := n.Check(); err != nil {
		return err
	}
	if err := n.awaitPrevious(ctx, s.Log); err != nil {
		return err
	}
	jmx := JMX{Password: rand.Text()}
	var err error
	if jmx.Port, err = freePort(ctx); err != nil {
		return err
	}
	if err := n.render(jmx.Password); err != nil {
		return err
	}
	s.mu.Lock()
	s.jmx = jmx
	s.mu.Unlock()
	refreshing, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { s.refresh(refreshing, n) })
	return n.run(ctx, jmx.Port, s.Output, func(pid int) { s.pid.Store(int64(pid)) })
}

// refresh brings renewed certificates to where Cassandra reads them.
func (s *Supervisor) refresh(ctx context.Context, n Node) {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := n.renderPair(); err != nil {
			s.Log.Error("renewing Cassandra's certificates", "error", err)
		}
	}
}

// freePort finds a port for JMX. Somebody else may take it before Cassandra does, which then ends and is started again.
func freePort(ctx context.Context) (int, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a port for JMX: %w", err)
	}
	defer func() { _ = ln.Close() }()
	address, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("finding a port for JMX: no TCP address")
	}
	return address.Port, nil
}
