package cassandra

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/gocql/gocql"
)

const (
	watchEvery = 500 * time.Millisecond
	watchLimit = 3 * time.Second // for one look
)

var errStarting = errors.New("Cassandra is starting")

// Watch keeps asking this node's Cassandra whether it is Up and Normal: it answers and is in the ring.
type Watch struct {
	Address string
	TLS     *tls.Config
	Died    func() error // why it ended last, if it did
	Log     *slog.Logger

	mu      sync.Mutex
	state   error
	looked  bool
	session *gocql.Session
}

// Usable returns nil while Cassandra is Up and Normal.
func (w *Watch) Usable() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.looked {
		return errStarting
	}
	return w.state
}

// Session is the session with this node alone, for what changes the schema and looks at the ring.
func (w *Watch) Session() (*gocql.Session, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session == nil {
		return nil, errors.Join(errStarting, w.state)
	}
	return w.session, nil
}

// Await waits until Cassandra is Up and Normal. When ctx ends first, the error says what was in the way.
func (w *Watch) Await(ctx context.Context) error {
	tick := time.NewTicker(watchEvery / 5)
	defer tick.Stop()
	for {
		err := w.Usable()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for Cassandra: %w", errors.Join(err, ctx.Err()))
		case <-tick.C:
		}
	}
}

// Run looks until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	defer w.close()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		err := w.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		w.note(err)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (w *Watch) note(err error) {
	if died := w.Died(); err != nil && died != nil {
		err = fmt.Errorf("%w; it ended before: %w", err, died)
	}
	w.mu.Lock()
	was, first := w.state, !w.looked
	w.state, w.looked = err, true
	w.mu.Unlock()
	switch {
	case err == nil && (first || was != nil):
		w.Log.Info("Cassandra is up and normal")
	case err != nil && !first && was == nil:
		w.Log.Error("Cassandra is not up and normal", "error", err)
	}
}

// look asks once.
func (w *Watch) look(ctx context.Context) error {
	w.mu.Lock()
	session := w.session
	w.mu.Unlock()
	if session == nil {
		var err error
		if session, err = w.connect(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, watchLimit)
	defer cancel()
	var bootstrapped string
	if err := session.Query(`SELECT bootstrapped FROM system.local WHERE key = 'local'`).WithContext(ctx).
		Consistency(gocql.One).Scan(&bootstrapped); err != nil {
		if !errors.Is(err, context.DeadlineExceeded) {
			w.disconnect() // gocql is slow to find back to a single host
		}
		return fmt.Errorf("asking Cassandra for its state: %w", err)
	}
	if bootstrapped != "COMPLETED" {
		return fmt.Errorf("Cassandra has not joined the ring: %s", strings.ToLower(bootstrapped))
	}
	return nil
}

// connect opens the session with this node.
func (w *Watch) connect() (*gocql.Session, error) {
	session, err := Connect(Connection{Hosts: []string{w.Address}, Alone: true, TLS: w.TLS, Log: w.Log})
	if err != nil {
		return nil, fmt.Errorf("Cassandra does not answer: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.session = session
	return session, nil
}

func (w *Watch) disconnect() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session != nil {
		w.session.Close()
		w.session = nil
	}
}

func (w *Watch) close() {
	w.disconnect()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state, w.looked = errors.New("Cassandra is stopping"), true
}
