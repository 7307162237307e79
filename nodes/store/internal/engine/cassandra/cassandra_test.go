package cassandra_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	driver "github.com/clearwater-ims/clearwater/nodes/store/internal/cassandra"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/cassandra/cassandratest"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/cassandra"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/enginetest"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/memory"
)

var one *cassandratest.Cluster //nolint:gochecknoglobals // one real Cassandra for all tests of the package

func TestMain(m *testing.M) { os.Exit(withCassandra(m)) }

func withCassandra(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cassandra")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		one, err = cassandratest.New(dir, 2)
	}
	if err == nil {
		defer one.Stop()
		_, err = one.Add(context.Background())
	}
	if err == nil {
		err = migrate(context.Background(), one)
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func migrate(ctx context.Context, c *cassandratest.Cluster) error {
	session, err := c.Nodes[0].Driver.Watch.Session()
	if err != nil {
		return err
	}
	return driver.Migrate(ctx, session, "site1", cassandra.Schema(), cassandratest.NoLocks{}, slog.New(slog.DiscardHandler))
}

func open(t testing.TB, c *cassandratest.Cluster, hosts ...string) engine.Engine {
	t.Helper()
	if len(hosts) == 0 {
		hosts = []string{c.Address(1)}
	}
	session, err := driver.Connect(driver.Connection{Hosts: hosts, Datacenter: "site1", TLS: c.Nodes[0].TLS, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return cassandra.New(session)
}

// apart gives each test its own tables on one engine, since emptying Cassandra's would take seconds.
type apart struct {
	engine.Engine

	mark string
}

func (a apart) Get(ctx context.Context, table, key string) (engine.Row, error) {
	return a.Engine.Get(ctx, a.mark+table, key)
}

func (a apart) Commit(ctx context.Context, writes ...engine.Write) (uint64, bool, error) {
	mine := make([]engine.Write, len(writes))
	for i, w := range writes {
		mine[i] = w
		mine[i].Table = a.mark + w.Table
	}
	return a.Engine.Commit(ctx, mine...)
}

func (a apart) Scan(ctx context.Context, table string, r engine.Range, limit int) ([]engine.Row, bool, error) {
	return a.Engine.Scan(ctx, a.mark+table, r, limit)
}

func TestConforms(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) engine.Engine {
		t.Helper()
		return apart{open(t, one), strings.ReplaceAll(t.Name(), "/", "_")}
	})
}

// TestEqualsMemory does fewer operations than the embedded engine's: each is a few round trips here.
func TestEqualsMemory(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("30"); err != nil {
			t.Fatal(err)
		}
	}
	e := open(t, one)
	defer func() { _ = e.Close() }()
	n := 0
	enginetest.Equal(t, func() (engine.Engine, engine.Engine) {
		n++
		return memory.New(), unclosed{apart{e, fmt.Sprint("equal", n)}}
	}, nil)
}

// unclosed stays open for the next round.
type unclosed struct{ engine.Engine }

func (unclosed) Close() error { return nil }
