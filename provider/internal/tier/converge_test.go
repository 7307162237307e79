package tier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/platformtest"
)

// nodes is a double of all nodes: each is ready bootTime after it started, and drained holdTime after it was told.
type nodes struct {
	memory   *platformtest.Memory
	bootTime time.Duration
	holdTime time.Duration

	mu      sync.Mutex
	started map[string]time.Time // by incarnation of name
	drained map[string]time.Time
	cluster string
	broken  map[string]error // node -> what its status answers
}

func (n *nodes) Status(_ context.Context, node platform.Node) (management.Status, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.broken[node.Name]; err != nil {
		return management.Status{}, err
	}
	key := node.Name + node.Image.SHA256
	if n.started[key].IsZero() {
		n.started[key] = time.Now()
	}
	s := management.Status{Name: node.Name, Incarnation: node.Incarnation, State: management.Ready}
	switch at, draining := n.drained[node.Name]; {
	case draining && time.Since(at) >= n.holdTime:
		s.State = management.Drained
	case draining:
		s.State, s.Held = management.Draining, map[string]int64{"dialogs": 3}
	case time.Since(n.started[key]) < n.bootTime:
		s.State, s.Reasons = management.Joining, []string{"booting"}
	}
	return s, nil
}

func (n *nodes) Drain(_ context.Context, node platform.Node, _ time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, told := n.drained[node.Name]; !told {
		n.drained[node.Name] = time.Now()
		n.memory.Note("drain %s", node.Name)
	}
	return nil
}

func (n *nodes) Decommission(_ context.Context, node platform.Node, _ time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, told := n.drained[node.Name]; !told {
		n.drained[node.Name] = time.Now()
		n.memory.Note("decommission %s", node.Name)
	}
	return nil
}

func (n *nodes) Undrain(_ context.Context, node platform.Node) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.drained, node.Name)
	n.memory.Note("undrain %s", node.Name)
	return nil
}

func (n *nodes) Bootstrap(_ context.Context, _ *platform.World, node platform.Node, token string) (string, error) {
	if token == "" {
		return "", errors.New("no token")
	}
	n.cluster += "c"
	n.memory.Note("bootstrap %s", node.Name)
	return n.cluster, nil
}

func (n *nodes) Admit(_ context.Context, _ *platform.World, node platform.Node, token string) error {
	if token == "" {
		return errors.New("no token")
	}
	n.memory.Note("admit %s", node.Name)
	return nil
}

func (n *nodes) Forget(_ context.Context, _ *platform.World, node string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.drained, node)
	n.memory.Note("forget %s", node)
	return nil
}

type bench struct {
	*Converger
	memory *platformtest.Memory
	nodes  *nodes
}

func newBench(t *testing.T) *bench {
	t.Helper()
	m := platformtest.NewMemory()
	b := &bench{memory: m, nodes: &nodes{memory: m, bootTime: time.Second, holdTime: 10 * time.Second, started: map[string]time.Time{}, drained: map[string]time.Time{}, broken: map[string]error{}}}
	b.Converger = &Converger{Platform: m, Nodes: b.nodes, Progress: t.Logf, Poll: 100 * time.Millisecond}
	ctx := t.Context()
	if _, err := m.ApplyDeployment(ctx, platform.Deployment{ID: "d", Name: "d", HomeDomain: "ims.example.com"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.ApplyNetwork(ctx, "d", platform.Network{Name: "core"}); err != nil {
		t.Fatal(err)
	}
	if err := m.ApplySite(ctx, "d", platform.Site{Name: "site1", Network: "core", TTL: 5}); err != nil {
		t.Fatal(err)
	}
	return b
}

func shape(role config.Role, count int, image string) Shape {
	return Shape{Deployment: "d", Site: "site1", Role: role, Count: count, Image: platform.Image{SHA256: image}, DrainTimeout: time.Minute}
}

// steps converges and returns what happened, in order.
func (b *bench) steps(t *testing.T, s Shape) string {
	t.Helper()
	b.memory.Journal = nil
	if err := b.Converge(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return strings.Join(b.memory.Journal, "; ")
}

func (b *bench) names(t *testing.T, role config.Role) (out []string) {
	t.Helper()
	w, err := b.memory.Reflect(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range w.NodesOf("site1", role) {
		out = append(out, n.Name+"="+n.Image.SHA256)
	}
	return out
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}

func TestUpNamesNodesWhenTheyAreReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		expect(t, "one", b.steps(t, shape(config.Router, 1, "v1")), "publish 0; admit router-1.site1; start router-1.site1 v1; publish 1")
		expect(t, "again", b.steps(t, shape(config.Router, 1, "v1")), "")
	})
}

func TestDownUnpublishesWaitsDrainsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.steps(t, shape(config.Edge, 3, "v1"))
		began := time.Now()
		got := b.steps(t, shape(config.Edge, 2, "v1"))
		expect(t, "3 to 2", got, "publish 2; drain edge-3.site1; end edge-3.site1; forget edge-3.site1; publish 2")
		if took := time.Since(began); took < 15*time.Second || took > 16*time.Second {
			t.Errorf("it took %v, not the TTL of 5 s and the 10 s that the node holds something", took)
		}
		b.steps(t, shape(config.Edge, 0, "v1"))
		if left := b.names(t, config.Edge); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestDrainThatOutlastsFailsUnlessForced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.steps(t, shape(config.Edge, 2, "v1"))
		b.nodes.holdTime = time.Hour
		err := b.Converge(t.Context(), shape(config.Edge, 1, "v1"))
		if !errors.Is(err, errDrain) || !strings.Contains(err.Error(), "3 dialogs") {
			t.Errorf("got %v", err)
		}
		if left := b.names(t, config.Edge); len(left) != 2 {
			t.Errorf("the node was ended all the same: %v", left)
		}
		back := b.steps(t, shape(config.Edge, 2, "v1"))
		expect(t, "changed my mind", back, "publish 1; admit edge-2.site1; start edge-2.site1 v1; undrain edge-2.site1; publish 2")
		forced := shape(config.Edge, 1, "v1")
		forced.Force = true
		b.steps(t, forced)
		if left := b.names(t, config.Edge); len(left) != 1 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestSilentNodeNeedsForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.steps(t, shape(config.Edge, 2, "v1"))
		b.nodes.broken["edge-2.site1"] = errors.New("connection refused")
		s := shape(config.Edge, 1, "v1")
		s.DrainTimeout = time.Hour
		began := time.Now()
		err := b.Converge(t.Context(), s)
		if !errors.Is(err, errDrain) || !strings.Contains(err.Error(), "connection refused") || time.Since(began) > time.Minute {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		s.Force = true
		b.steps(t, s)
		if left := b.names(t, config.Edge); len(left) != 1 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestNewImageRollsWithOneMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.steps(t, shape(config.Router, 2, "v1"))
		got := b.steps(t, shape(config.Router, 2, "v2"))
		smallest := 9
		for step := range strings.SplitSeq(got, "; ") {
			var n int
			if _, err := fmt.Sscanf(step, "publish %d", &n); err == nil {
				smallest = min(smallest, n)
			}
		}
		if smallest < 2 {
			t.Errorf("capacity dropped to %d: %s", smallest, got)
		}
		expect(t, "nodes", strings.Join(b.names(t, config.Router), " "), "router-1.site1=v2 router-2.site1=v2")
		if !strings.Contains(got, "start router-3.site1 v2") || !strings.Contains(got, "end router-3.site1") {
			t.Errorf("no spare node: %s", got)
		}
	})
}

func TestInterruptedAtAnyStepIsFinishedByTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, change := range []struct{ from, to Shape }{
			{shape(config.Router, 0, "v1"), shape(config.Router, 3, "v1")},
			{shape(config.Router, 3, "v1"), shape(config.Router, 1, "v1")},
			{shape(config.Router, 2, "v1"), shape(config.Router, 2, "v2")},
			{shape(config.Router, 1, "v1"), shape(config.Router, 2, "v2")},
		} {
			for after := time.Duration(0); after < 45*time.Second; after += 700 * time.Millisecond {
				b := newBench(t)
				b.steps(t, change.from)
				ctx, cancel := context.WithTimeout(t.Context(), after)
				_ = b.Converge(ctx, change.to)
				cancel()
				b.steps(t, change.to)
				var want []string
				for i := 1; i <= change.to.Count; i++ {
					want = append(want, fmt.Sprintf("router-%d.site1=%s", i, change.to.Image.SHA256))
				}
				w, _ := b.memory.Reflect(t.Context(), "d")
				if got := b.names(t, config.Router); !slices.Equal(got, want) || len(publishedAddresses(w, "site1", config.Router)) != change.to.Count {
					t.Fatalf("interrupted after %v: %v, published %v", after, got, publishedAddresses(w, "site1", config.Router))
				}
				expect(t, "nothing is left to do", b.steps(t, change.to), "")
			}
		}
	})
}

func TestFirstStoreNodeIsBootstrappedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		expect(t, "first", b.steps(t, shape(config.Store, 1, "v1")), "publish 0; start store-1.site1 v1; publish 1; bootstrap store-1.site1")
		expect(t, "again", b.steps(t, shape(config.Store, 1, "v1")), "")
		expect(t, "new image", b.steps(t, shape(config.Store, 1, "v2")), "start store-1.site1 v2")
	})
}

// TestStoreNodesComeAndGoOneAtATime resizes a store: each node is named in DNS when it serves, and hands over before it ends.
func TestStoreNodesComeAndGoOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		expect(t, "three", b.steps(t, shape(config.Store, 3, "v1")), "publish 0; start store-1.site1 v1; publish 1; bootstrap store-1.site1; "+
			"admit store-2.site1; start store-2.site1 v1; publish 2; admit store-3.site1; start store-3.site1 v1; publish 3")
		expect(t, "again", b.steps(t, shape(config.Store, 3, "v1")), "")
		expect(t, "five", b.steps(t, shape(config.Store, 5, "v1")), "publish 3; admit store-4.site1; start store-4.site1 v1; publish 4; "+
			"admit store-5.site1; start store-5.site1 v1; publish 5")
		expect(t, "three again", b.steps(t, shape(config.Store, 3, "v1")), "publish 4; decommission store-5.site1; end store-5.site1; forget store-5.site1; "+
			"publish 3; decommission store-4.site1; end store-4.site1; forget store-4.site1; publish 3")
		expect(t, "new image", b.steps(t, shape(config.Store, 3, "v2")), "start store-1.site1 v2; start store-2.site1 v2; start store-3.site1 v2")
		b.nodes.holdTime = time.Hour
		if err := b.Converge(t.Context(), shape(config.Store, 1, "v2")); !errors.Is(err, errDrain) {
			t.Errorf("a store node that cannot hand over: %v", err)
		}
		if left := b.names(t, config.Store); len(left) != 3 {
			t.Errorf("left: %v", left)
		}
		if err := b.Remove(t.Context(), shape(config.Store, 3, "v2"), false); err != nil {
			t.Fatal(err)
		}
		if left := b.names(t, config.Store); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

func TestStoreCounts(t *testing.T) {
	for name, c := range map[string]struct {
		engine types.String
		count  int64
		says   string
	}{
		"one":                  {types.StringNull(), 1, ""},
		"none":                 {types.StringNull(), 0, "node_count = 0"},
		"two":                  {types.StringValue("cassandra"), 2, "survive no more"},
		"three embedded":       {types.StringNull(), 3, "one node's disk"},
		"three said embedded":  {types.StringValue("embedded"), 3, "one node's disk"},
		"three cassandra":      {types.StringValue("cassandra"), 3, ""},
		"nine cassandra":       {types.StringValue("cassandra"), 9, ""},
		"one cassandra":        {types.StringValue("cassandra"), 1, "three replicas"},
		"three, not known yet": {types.StringUnknown(), 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var diags diag.Diagnostics
			storeCount(model{NodeCount: types.Int64Value(c.count), Engine: c.engine}, &diags)
			said := ""
			for _, d := range diags {
				said += d.Detail()
			}
			if diags.HasError() != (c.says != "") || !strings.Contains(said, c.says) {
				t.Errorf("it says %q, want %q", said, c.says)
			}
		})
	}
}

func TestOtherSitesStoreIsFound(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	if err := b.memory.ApplySite(ctx, "d", platform.Site{Name: "site2", Network: "core", TTL: 5}); err != nil {
		t.Fatal(err)
	}
	if err := b.memory.ApplyNode(ctx, "d", platform.Node{Name: "store-1.site2", Role: config.Store, Site: "site2", Index: 1}); err != nil {
		t.Fatal(err)
	}
	w, err := b.memory.Reflect(ctx, "d")
	if err != nil {
		t.Fatal(err)
	}
	if n, found := otherStore(w, "site1"); !found || n.Name != "store-1.site2" {
		t.Errorf("beside site1: %v %v", n, found)
	}
	if n, found := otherStore(w, "site2"); found {
		t.Errorf("beside site2: %v", n)
	}
}

func TestLostStoreIsNotReplacedByAnEmptyOneUnasked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.steps(t, shape(config.Store, 1, "v1"))
		if err := b.memory.DeleteNode(t.Context(), "d", "store-1.site1"); err != nil {
			t.Fatal(err)
		}
		if err := b.Converge(t.Context(), shape(config.Store, 1, "v1")); !errors.Is(err, errLost) {
			t.Errorf("got %v, want errLost", err)
		}
		renew := shape(config.Store, 1, "v1")
		renew.Renew = true
		if got := b.steps(t, renew); !strings.Contains(got, "bootstrap store-1.site1") {
			t.Errorf("asked for: %s", got)
		}
	})
}

func TestRemovedStoreMayStartAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.steps(t, shape(config.Store, 1, "v1"))
		if err := b.Remove(t.Context(), shape(config.Store, 0, "v1"), false); err != nil {
			t.Fatal(err)
		}
		if got := b.steps(t, shape(config.Store, 1, "v1")); !strings.Contains(got, "bootstrap") {
			t.Errorf("got %s", got)
		}
	})
}

func TestNodeThatDoesNotBecomeReadyIsExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.nodes.bootTime = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := b.Converge(ctx, shape(config.Edge, 1, "v1"))
		if err == nil || !strings.Contains(err.Error(), "edge-1.site1 is not ready: it is joining: booting") {
			t.Errorf("got %v", err)
		}
		b.nodes.bootTime = 0
		expect(t, "a mended image", b.steps(t, shape(config.Edge, 1, "v2")), "publish 0; admit edge-1.site1; start edge-1.site1 v2; publish 1")
	})
}
