// Command enginebench measures compare-and-swaps per second: on the embedded engine beside a bare loop of Pebble batches
// that wait for the disk, and on the Cassandra engine beside a bare loop of gocql lightweight transactions, on three real
// nodes of this machine. Same payload, same number of swaps under way, the two in turn; the median round counts.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/gocql/gocql"

	driver "github.com/clearwater-ims/clearwater/nodes/store/internal/cassandra"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/cassandra/cassandratest"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/cassandra"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/embedded"
)

const (
	payload = 600 // bytes, about a registration record
	block   = 7   // of the loopback addresses: 127.36.7.1-3
)

// settings are the command line.
type settings struct {
	rounds   int
	length   time.Duration
	parallel int
	dir      string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	s := settings{}
	flag.IntVar(&s.rounds, "rounds", 3, "rounds of each loop")
	flag.DurationVar(&s.length, "length", 10*time.Second, "length of a round")
	flag.IntVar(&s.parallel, "parallel", 64, "swaps under way, each of a row of its own")
	engines := flag.String("engine", "", "embedded or cassandra only")
	flag.Parse()
	if err := run(ctx, s, *engines); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "enginebench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, only string) error {
	var err error
	if s.dir, err = os.MkdirTemp("", "enginebench"); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(s.dir) }()
	if err := say("| compare-and-swap of %d bytes, %d under way | bare loop, 1/s | engine, 1/s | ratio |\n|---|---|---|---|\n", payload, s.parallel); err != nil {
		return err
	}
	if only != "cassandra" {
		if err := s.embedded(ctx); err != nil {
			return err
		}
	}
	if only == "embedded" {
		return nil
	}
	return s.cassandra(ctx)
}

func say(format string, args ...any) error {
	_, err := fmt.Fprintf(os.Stdout, format, args...)
	return err
}

// swap changes one row from the version that it last gave; n names the row.
type swap func(ctx context.Context, n int, version uint64) (uint64, error)

// compare runs the two loops in turn and prints the medians.
func (s settings) compare(ctx context.Context, what string, bare, engine swap) error {
	var a, b []float64
	versions := [2][]uint64{make([]uint64, s.parallel), make([]uint64, s.parallel)}
	for round := range s.rounds + 1 {
		for i, loop := range []swap{bare, engine} {
			rate, err := s.measure(ctx, loop, versions[i])
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			if round == 0 {
				continue // to warm up
			}
			if i == 0 {
				a = append(a, rate)
			} else {
				b = append(b, rate)
			}
		}
	}
	slices.Sort(a)
	slices.Sort(b)
	x, y := a[len(a)/2], b[len(b)/2]
	return say("| %s | %.0f (%.0f-%.0f) | %.0f (%.0f-%.0f) | %.2f |\n", what, x, a[0], a[len(a)-1], y, b[0], b[len(b)-1], y/x)
}

// measure is the rate of one round.
func (s settings) measure(ctx context.Context, loop swap, versions []uint64) (float64, error) {
	until, cancel := context.WithTimeout(ctx, s.length)
	defer cancel()
	var done atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	started := time.Now()
	for n := range s.parallel {
		wg.Go(func() {
			for until.Err() == nil {
				v, err := loop(ctx, n, versions[n])
				if err != nil {
					failed.Store(&err)
					return
				}
				versions[n] = v
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(done.Load()) / time.Since(started).Seconds(), ctx.Err()
}

// through is the loop on an engine.
func through(e engine.Engine) swap {
	value := make([]byte, payload)
	return func(ctx context.Context, n int, version uint64) (uint64, error) {
		v, done, err := e.Commit(ctx, engine.Swap("bench", fmt.Sprint("row", n), version, value))
		if err == nil && !done {
			err = fmt.Errorf("refused at version %d", v)
		}
		return v, err
	}
}

func (s settings) embedded(ctx context.Context) error {
	e, err := embedded.Open(embedded.Config{Dir: filepath.Join(s.dir, "engine"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	db, err := pebble.Open(filepath.Join(s.dir, "bare"), &pebble.Options{FormatMajorVersion: pebble.FormatNewest, MemTableSize: 16 << 20, Logger: quiet{}})
	if err != nil {
		return fmt.Errorf("opening the bare database: %w", err)
	}
	defer func() { _ = db.Close() }()
	value := make([]byte, payload)
	return s.compare(ctx, "embedded beside Pebble batches", func(_ context.Context, n int, version uint64) (uint64, error) {
		batch := db.NewBatch()
		defer func() { _ = batch.Close() }()
		if err := batch.Set(fmt.Append(nil, "row", n), value, nil); err != nil {
			return 0, err
		}
		return version + 1, batch.Commit(pebble.Sync)
	}, through(e))
}

// quiet is a Pebble logger that says nothing.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func (s settings) cassandra(ctx context.Context) error {
	c, err := cassandratest.New(s.dir, block)
	if err != nil {
		return err
	}
	defer c.Stop()
	log := slog.New(slog.DiscardHandler)
	for n := range 3 {
		node, err := c.Add(ctx)
		if err != nil {
			return err
		}
		if n > 0 {
			if err := node.Driver.Ring.Raise(ctx); err != nil {
				return err
			}
			continue
		}
		session, err := node.Driver.Watch.Session()
		if err != nil {
			return err
		}
		if err := driver.Migrate(ctx, session, "site1", append(cassandra.Schema(), bareTable()), cassandratest.NoLocks{}, log); err != nil {
			return err
		}
	}
	session, err := driver.Connect(driver.Connection{Hosts: []string{c.Address(1)}, Datacenter: "site1", TLS: c.Nodes[0].TLS, Log: log})
	if err != nil {
		return err
	}
	e := cassandra.New(session)
	defer func() { _ = e.Close() }()
	return s.compare(ctx, "Cassandra, three nodes, beside gocql `IF version = ?`", bareCassandra(session), through(e))
}

func bareTable() driver.Migration {
	return driver.Migration{Version: 1000, Statements: []string{`CREATE TABLE IF NOT EXISTS $keyspace.bare (key blob PRIMARY KEY, version bigint, value blob)`}}
}

func bareCassandra(session *gocql.Session) swap {
	value := make([]byte, payload)
	return func(ctx context.Context, n int, version uint64) (uint64, error) {
		var from *int64
		if at := int64(version); version != 0 { //nolint:gosec // counts from 1
			from = &at
		}
		var found int64
		done, err := session.Query(`UPDATE clearwater.bare SET version = ?, value = ? WHERE key = ? IF version = ?`, int64(version+1), value, fmt.Append(nil, "row", n), from). //nolint:gosec // as above
																							WithContext(ctx).Consistency(gocql.LocalQuorum).SerialConsistency(gocql.LocalSerial).ScanCAS(&found)
		if err == nil && !done {
			err = fmt.Errorf("refused at version %d", found)
		}
		return version + 1, err
	}
}
