package cassandra_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/cassandra"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/cassandra/cassandratest"
)

// reason waits until the node's Cassandra has ended, and returns why.
func reason(t *testing.T, n *cassandratest.Node) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for n.Driver.Supervisor.Reason() == nil {
		select {
		case <-ctx.Done():
			t.Fatalf("Cassandra did not end: %v", n.Driver.Watch.Usable())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return n.Driver.Supervisor.Reason().Error()
}

// TestBadInput starts Cassandra where it cannot run: each time the error says what an operator has to do.
func TestBadInput(t *testing.T) {
	newCluster := func(t *testing.T, block int) *cassandratest.Cluster {
		t.Helper()
		c, err := cassandratest.New(t.TempDir(), block)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Stop)
		return c
	}
	start := func(t *testing.T, n *cassandratest.Node, err error) {
		t.Helper()
		if err := errors.Join(err, n.Start()); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(t *testing.T, got, want string) {
		t.Helper()
		if !strings.Contains(got, want) {
			t.Errorf("it says %q, not %q", got, want)
		}
		t.Log(got)
	}
	t.Run("nothing to run", func(t *testing.T) {
		c := newCluster(t, 3)
		n, err := c.Prepare()
		if err != nil {
			t.Fatal(err)
		}
		good := n.Settings
		for want, change := range map[string]func(*cassandra.Node){
			"there is no cassandra-all jar": func(n *cassandra.Node) { n.Home = t.TempDir() },
			"looking for Java 17":           func(n *cassandra.Node) { n.Java = "no-such-java" },
			"no seeds":                      func(n *cassandra.Node) { n.Seeds = nil },
			"must be given":                 func(n *cassandra.Node) { n.Cluster = "" },
		} {
			bad := good
			change(&bad)
			if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("it says %v, not %s", err, want)
			}
		}
		if err := good.Check(); err != nil {
			t.Error(err)
		}
	})
	t.Run("unreachable seed", func(t *testing.T) {
		c := newCluster(t, 3)
		n, err := c.Prepare("127.36.3.99")
		start(t, n, err)
		expect(t, reason(t, n), "no seed answers")
	})
	t.Run("key of another", func(t *testing.T) {
		c := newCluster(t, 4)
		n, err := c.Prepare()
		if err == nil {
			err = os.WriteFile(n.Settings.KeyFile, []byte("nonsense"), 0o600)
		}
		start(t, n, err)
		expect(t, reason(t, n), "certificate or key cannot be used")
	})
	t.Run("full disk", func(t *testing.T) {
		c := newCluster(t, 5)
		n, err := c.Prepare()
		if err == nil {
			err = os.MkdirAll(n.Settings.Directory, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", n.Settings.Directory, "tmpfs", 0, "size=24m"); err != nil {
			t.Logf("no tmpfs can be mounted (%v): a file is in the way of the commit log instead", err)
			if err := os.WriteFile(filepath.Join(n.Settings.Directory, "commitlog"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			start(t, n, nil)
			expect(t, reason(t, n), "commitlog")
			return
		}
		t.Cleanup(func() {
			n.Stop()
			if err := syscall.Unmount(n.Settings.Directory, 0); err != nil {
				t.Error(err)
			}
		})
		start(t, n, nil)
		expect(t, reason(t, n), "the disk of Cassandra's data is")
	})
}

// TestStrangersAndDamage: a node whose certificate is of another deployment is kept out of the ring and its clients of
// its rows, and a node with a damaged data file says so and goes on when the file is whole.
func TestStrangersAndDamage(t *testing.T) {
	c, err := cassandratest.New(t.TempDir(), 6)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	n, err := c.Add(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := cassandratest.New(t.TempDir(), 6)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Stop()
	first, err := stranger.Prepare()
	if err != nil {
		t.Fatal(err)
	}
	roots, err := pki.Pool(c.Roots)
	if err != nil {
		t.Fatal(err)
	}
	text := func(path string) []byte {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	source, err := pki.Static(text(first.Settings.CertFile), text(first.Settings.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if s, err := cassandra.Connect(cassandra.Connection{Hosts: []string{c.Address(1)}, Alone: true, TLS: pki.ClientTLS(roots, source, "store"), Log: discard()}); err == nil {
		s.Close()
		t.Error("a client of another deployment was let in")
	}
	second, err := stranger.Prepare(c.Address(1))
	if err == nil {
		err = second.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := reason(t, second); !strings.Contains(got, "no seed answers") {
		t.Errorf("a node of another deployment ended with %q", got)
	}
	second.Stop()

	n.Stop()
	files, err := filepath.Glob(filepath.Join(n.Settings.Directory, "data", "system_schema", "tables-*", "*-Data.db"))
	if err != nil || len(files) == 0 {
		t.Fatal("no data files:", err)
	}
	whole := map[string][]byte{}
	for _, f := range files {
		whole[f] = text(f)
		if err := os.WriteFile(f, bytes.Repeat([]byte{0xaa}, len(whole[f])), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	got := reason(t, n)
	t.Log(got)
	if !strings.Contains(got, "a data file of Cassandra is corrupt") {
		t.Errorf("a damaged data file: %s", got)
	}
	n.Stop()
	for f, b := range whole {
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(n.Start(), n.Await(t.Context())); err != nil {
		t.Error(err)
	}
}
