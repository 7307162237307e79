package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
)

// member is an etcd of one member, without TLS, on a loopback address and ports of its own.
type member struct {
	t            *testing.T
	dir          string
	client, peer string
	etcd         *embed.Etcd
}

func newMember(t *testing.T, address string) *member {
	t.Helper()
	m := &member{t: t, dir: t.TempDir(), client: free(t, address), peer: free(t, address)}
	m.start()
	t.Cleanup(m.stop)
	return m
}

func free(t *testing.T, address string) string {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

func (m *member) start() {
	m.t.Helper()
	urls := func(address string) []url.URL { return []url.URL{{Scheme: "http", Host: address}} }
	c := embed.NewConfig()
	c.Dir, c.LogLevel = m.dir, "panic"
	c.ListenClientUrls, c.AdvertiseClientUrls = urls(m.client), urls(m.client)
	c.ListenPeerUrls, c.AdvertisePeerUrls = urls(m.peer), urls(m.peer)
	c.InitialCluster = c.Name + "=http://" + m.peer
	etcd, err := embed.StartEtcd(c)
	if err != nil {
		m.t.Fatal(err)
	}
	<-etcd.Server.ReadyNotify()
	m.etcd = etcd
}

func (m *member) stop() {
	if m.etcd != nil {
		m.etcd.Close()
		m.etcd = nil
	}
}

func (m *member) open() *cluster.Client {
	m.t.Helper()
	c, err := cluster.New(cluster.Config{Site: "site1", Log: slog.New(slog.DiscardHandler), Resolve: func(context.Context) ([]netip.AddrPort, error) {
		return []netip.AddrPort{netip.MustParseAddrPort(m.client)}, nil
	}})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = c.Close() })
	return c
}

// run keeps c registered until the test ends or the returned function is called.
func run(t *testing.T, c *cluster.Client) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("after %s: %v", limit, err)
		case <-tick.C:
		}
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	c := newMember(t, "127.20.5.1").open()
	if _, err := c.Document(t.Context(), "bgcf_json"); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("an absent document: %v", err)
	}
	first, err := c.PutDocument(t.Context(), management.Document{Type: "bgcf_json", Text: "{}", Author: "alice"})
	if err != nil || first.Revision == 0 {
		t.Fatal(first, err)
	}
	for _, revision := range []int64{0, first.Revision + 1} {
		if _, err := c.PutDocument(t.Context(), management.Document{Type: "bgcf_json", Text: "x", Revision: revision}); !errors.Is(err, cluster.ErrConflict) {
			t.Errorf("a change of revision %d: %v", revision, err)
		}
	}
	second, err := c.PutDocument(t.Context(), management.Document{Type: "bgcf_json", Text: "[]", Author: "bob", Revision: first.Revision})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Document(t.Context(), "bgcf_json")
	if err != nil || got.Text != "[]" || got.Author != "bob" || got.Revision != second.Revision || got.ChangedAt.IsZero() {
		t.Errorf("read back: %+v, %v", got, err)
	}
	if all, err := c.Documents(t.Context()); err != nil || len(all) != 1 || all[0].Type != "bgcf_json" {
		t.Errorf("all: %v, %v", all, err)
	}
}

func TestOneOfManyWritersWins(t *testing.T) {
	t.Parallel()
	m := newMember(t, "127.20.5.2")
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for n := range 8 {
		c := m.open()
		wg.Go(func() {
			_, err := c.PutDocument(t.Context(), management.Document{Type: "x", Text: fmt.Sprint(n)})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, cluster.ErrConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d writers won", won)
	}
}

// TestWatch follows documents over a restart of etcd, and sees each change once.
func TestWatch(t *testing.T) {
	t.Parallel()
	m := newMember(t, "127.20.5.3")
	c := m.open()
	put := func(typ, text string, over int64) int64 {
		t.Helper()
		var d management.Document
		eventually(t, 20*time.Second, func() (err error) {
			d, err = c.PutDocument(t.Context(), management.Document{Type: typ, Text: text, Revision: over})
			return err
		})
		return d.Revision
	}
	r1 := put("a", "1", 0)
	seen := make(chan management.Document, 100)
	go func() { _ = m.open().Watch(t.Context(), func(d management.Document) { seen <- d }) }()
	expect := func(typ, text string, revision int64) {
		t.Helper()
		select {
		case d := <-seen:
			if d.Type != typ || d.Text != text || d.Revision != revision {
				t.Errorf("seen %+v, want %s %q %d", d, typ, text, revision)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s %q was not seen", typ, text)
		}
	}
	expect("a", "1", r1)
	r2 := put("a", "2", r1)
	expect("a", "2", r2)
	m.stop()
	m.start()
	r3 := put("b", "3", 0)
	expect("b", "3", r3)
	r4 := put("a", "4", r2)
	expect("a", "4", r4)
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	m := newMember(t, "127.20.5.4")
	view := m.open()
	state := func(name string, want management.State) func() error {
		return func() error {
			nodes, err := view.Nodes(t.Context())
			if err != nil {
				return err
			}
			for _, n := range nodes {
				if n.Name == name && n.State == want && !n.LastSeen.IsZero() {
					return nil
				}
			}
			return fmt.Errorf("%s is not %s in %+v", name, want, nodes)
		}
	}
	c := m.open()
	c.Announce(management.Registration{Name: "edge-1.site1", Role: "edge", Site: "site1", Address: "127.0.0.1", State: management.Joining})
	stop := run(t, c)
	eventually(t, 10*time.Second, state("edge-1.site1", management.Joining))
	applied := map[string]int64{"shared_config": 7}
	c.Announce(management.Registration{Name: "edge-1.site1", Role: "edge", State: management.Ready, Applied: applied})
	eventually(t, 10*time.Second, state("edge-1.site1", management.Ready))
	nodes, err := view.Nodes(t.Context())
	if err != nil || nodes[0].Applied["shared_config"] != 7 {
		t.Errorf("applied: %+v, %v", nodes, err)
	}
	m.stop()
	m.start()
	eventually(t, 20*time.Second, state("edge-1.site1", management.Ready))
	stop()
	eventually(t, 15*time.Second, state("edge-1.site1", management.Failed))

	drained := m.open()
	drained.Announce(management.Registration{Name: "edge-2.site1", State: management.Drained})
	stop = run(t, drained)
	eventually(t, 10*time.Second, state("edge-2.site1", management.Drained))
	stop()
	if err := state("edge-2.site1", management.Drained)(); err != nil {
		t.Error(err)
	}
	if err := view.Forget(t.Context(), "edge-2.site1"); err != nil {
		t.Error(err)
	}
	if err := view.Forget(t.Context(), "edge-2.site1"); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("forgetting again: %v", err)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	c := newMember(t, "127.20.5.5").open()
	if _, err := c.Token(t.Context(), "n"); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("no token: %v", err)
	}
	if err := c.PutToken(t.Context(), "n", management.Token{SHA256: "d", Role: "edge"}); err != nil {
		t.Fatal(err)
	}
	one, err := c.Token(t.Context(), "n")
	if err != nil || one.SHA256 != "d" || one.UsedBy != "" {
		t.Fatal(one, err)
	}
	if err := c.UseToken(t.Context(), "n", one, "key1"); err != nil {
		t.Fatal(err)
	}
	if err := c.UseToken(t.Context(), "n", one, "key2"); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("used at the same time: %v", err)
	}
	if again, err := c.Token(t.Context(), "n"); err != nil || again.UsedBy != "key1" {
		t.Errorf("after use: %+v, %v", again, err)
	}
	if err := c.Forget(t.Context(), "n"); err != nil {
		t.Error(err)
	}
	if _, err := c.Token(t.Context(), "n"); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("after forgetting: %v", err)
	}
}

func TestMembersAndLeader(t *testing.T) {
	t.Parallel()
	m := newMember(t, "127.20.5.6")
	c := m.open()
	if err := c.Leader(t.Context()); err != nil {
		t.Error(err)
	}
	id, members, err := c.Members(t.Context())
	if err != nil || id == "" || len(members) != 1 || !members[0].Leader || !members[0].Healthy {
		t.Errorf("cluster %s of %+v, %v", id, members, err)
	}
	m.stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := c.Leader(ctx); err == nil {
		t.Error("a stopped cluster has a leader")
	}
}
