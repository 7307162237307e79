package cassandra_test

import (
	"context"
	"fmt"

	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/cassandra"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/cassandra/cassandratest"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
	store "github.com/clearwater-ims/clearwater/nodes/store/internal/engine/cassandra"
)

// load swaps rows and remembers what was acknowledged.
type load struct {
	engine engine.Engine
	wg     sync.WaitGroup
	stop   chan struct{}

	acknowledged, unknown [writers]atomic.Int64
	longest               atomic.Int64 // nanoseconds
}

const writers = 4

func startLoad(t *testing.T, e engine.Engine) *load {
	t.Helper()
	l := &load{engine: e, stop: make(chan struct{})}
	for w := range writers {
		l.wg.Go(func() { l.write(t, w) })
	}
	return l
}

// write appends one byte after the other to a row of its own and to one that all share. Each is one swap.
func (l *load) write(t *testing.T, w int) {
	mark := byte('a' + w)
	for {
		select {
		case <-l.stop:
			return
		case <-time.After(100 * time.Millisecond):
		}
		started := time.Now()
		for done := false; !done; {
			row, err := l.engine.Get(t.Context(), "rows", "shared")
			if err != nil {
				t.Errorf("reading: %v", err)
				break
			}
			value := append(row.Value, mark)
			_, done, err = l.engine.Commit(t.Context(), engine.Put("rows_due", fmt.Sprintf("%02d/%d", w, len(value)), nil), engine.Swap("rows", "shared", row.Version, value))
			if err != nil {
				t.Logf("writing: %v", err)
				l.unknown[w].Add(1)
				break
			}
			if done {
				l.acknowledged[w].Add(1)
			}
		}
		took := int64(time.Since(started))
		for was := l.longest.Load(); took > was && !l.longest.CompareAndSwap(was, took); was = l.longest.Load() {
		}
	}
}

// check demands that every acknowledged swap is there once, and of the unknown ones each at most once.
func (l *load) check(t *testing.T) {
	t.Helper()
	row, err := l.engine.Get(t.Context(), "rows", "shared")
	if err != nil {
		t.Fatal(err)
	}
	for w := range writers {
		n, sure, unsure := int64(strings.Count(string(row.Value), string(rune('a'+w)))), l.acknowledged[w].Load(), l.unknown[w].Load()
		if n < sure || n > sure+unsure {
			t.Errorf("writer %d: %d swaps acknowledged, %d unknown, %d in the row", w, sure, unsure, n)
		}
	}
	t.Logf("%d swaps in the row", len(row.Value))
}

// TestRing lets a ring grow from one node to three, lose a node for a moment and one for good, and shrink, while its
// rows are swapped all the time.
func TestRing(t *testing.T) {
	c, err := cassandratest.New(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
	defer cancel()
	began := time.Now()
	step := func(what string) {
		t.Helper()
		t.Logf("%5.1f s: %s", time.Since(began).Seconds(), what)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first, err := c.Add(ctx)
	must(err)
	session, err := first.Driver.Watch.Session()
	must(err)
	for range 2 { // the second time there is nothing to do
		must(cassandra.Migrate(ctx, session, "site1", store.Schema(), cassandratest.NoLocks{}, discard()))
	}
	clients, err := cassandra.Connect(cassandra.Connection{Hosts: []string{c.Address(1)}, Datacenter: "site1", TLS: first.TLS, Log: discard()})
	must(err)
	l := startLoad(t, store.New(clients))
	ended := false
	end := func() {
		if !ended {
			ended = true
			close(l.stop)
			l.wg.Wait()
		}
	}
	defer end()
	step("one node")
	for n := range 2 {
		_, err := c.Add(ctx)
		must(err)
		step(fmt.Sprintf("node %d is in the ring", n+2))
		must(first.Driver.Ring.Raise(ctx))
		step("replicas raised and repaired")
	}
	expectReplicas(t, first, "3")

	second := c.Nodes[1]
	l.longest.Store(0)
	restarts := second.Driver.Supervisor.Restarts()
	must(syscall.Kill(second.Driver.Supervisor.PID(), syscall.SIGKILL))
	for second.Driver.Supervisor.Restarts() == restarts {
		<-time.After(50 * time.Millisecond)
	}
	must(second.Await(ctx))
	step(fmt.Sprintf("a killed node is back; the longest wait for a swap was %s", time.Duration(l.longest.Load()).Round(time.Millisecond)))

	third := c.Nodes[2]
	third.Stop()
	step("a node is gone for good")
	if err := c.Nodes[1].Driver.Ring.Decommission(ctx); err == nil || !strings.Contains(err.Error(), "is down") {
		t.Errorf("leaving a ring of which a node is down: %v", err)
	}
	fourth, err := c.Prepare(c.Address(1), c.Address(2))
	must(err)
	fourth.Settings.Replace = third.Settings.Address
	must(fourth.Start())
	must(fourth.Await(ctx))
	step("another has taken its place")
	expectMembers(t, first, ctx, c.Address(1), c.Address(2), c.Address(4))

	must(fourth.Driver.Ring.Decommission(ctx))
	fourth.Stop()
	step("a node has left")
	expectMembers(t, first, ctx, c.Address(1), c.Address(2))
	expectReplicas(t, first, "2")
	folders, err := first.Driver.Ring.Snapshot(ctx, "test")
	if err != nil || len(folders) == 0 {
		t.Errorf("snapshot: %v, %v", folders, err)
	}
	must(first.Driver.Ring.ForgetSnapshot(ctx, "test"))
	end()
	l.check(t)
	must(l.engine.Close())
	step("end")
}

func expectReplicas(t *testing.T, n *cassandratest.Node, want string) {
	t.Helper()
	session, err := n.Driver.Watch.Session()
	if err != nil {
		t.Fatal(err)
	}
	var by map[string]string
	if err := session.Query(`SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?`, cassandra.Keyspace).Scan(&by); err != nil || by["site1"] != want {
		t.Errorf("replication %v, %v; want %s", by, err, want)
	}
}

func expectMembers(t *testing.T, n *cassandratest.Node, ctx context.Context, want ...string) {
	t.Helper()
	members, err := n.Driver.Ring.Members(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, m := range members {
		got[m.Address] = m.Up && m.State == "N" && m.Datacenter == "site1"
	}
	for _, address := range want {
		if !got[address] {
			t.Errorf("the ring is %v; %s is not up and normal", members, address)
		}
	}
	if len(got) != len(want) {
		t.Errorf("the ring is %v, want %v", members, want)
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
