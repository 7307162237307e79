package etcd_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/etcd"
)

// TestMain makes this test binary an etcd member when a Supervisor starts it as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == etcd.Command {
		if err := etcd.Main(context.Background(), os.Stdin); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "etcd:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// site is the store nodes of one site, each with real etcd processes.
type site struct {
	t     *testing.T
	ca    *pki.Authority
	roots *x509.CertPool
	pem   []byte
	net   string // 127.37.x

	mu    sync.Mutex
	nodes map[int]*node
}

type node struct {
	*etcd.Membership
	*site

	index  int
	client *cluster.Client // as the service has it: registered, asks any member
	stop   func()
}

func newSite(t *testing.T, network string) *site {
	t.Helper()
	deployment, err := pki.NewDeploymentCA("lab")
	must(t, err)
	ca, err := deployment.NewSiteCA("site1")
	must(t, err)
	roots, err := pki.Pool(deployment.CertificatePEM())
	must(t, err)
	return &site{t: t, ca: ca, roots: roots, pem: deployment.CertificatePEM(), net: network, nodes: map[int]*node{}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) name(i int) string    { return fmt.Sprintf("store-%d.site1", i) }
func (s *site) address(i int) string { return fmt.Sprintf("%s.%d", s.net, i) }

// client connects as the holder of a certificate of that name and role.
func (s *site) client(name, role string, only ...int) *cluster.Client {
	s.t.Helper()
	chain, key, err := s.ca.Issue(pki.Subject{Name: name, Role: role, DNSNames: []string{"store.site1.lab"}}, time.Hour)
	must(s.t, err)
	return s.open(name, s.tls(chain, key), only...)
}

func (s *site) tls(chain, key []byte) *tls.Config {
	source, err := pki.Static(chain, key)
	must(s.t, err)
	return pki.ClientTLS(s.roots, source, "store")
}

func (s *site) open(name string, conf *tls.Config, only ...int) *cluster.Client {
	s.t.Helper()
	c, err := cluster.New(cluster.Config{Site: "site1", TLS: conf, Log: slog.New(slog.DiscardHandler), Resolve: func(context.Context) ([]netip.AddrPort, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		var out []netip.AddrPort
		for i := range s.nodes {
			if len(only) == 0 || only[0] == i {
				out = append(out, netip.MustParseAddrPort(s.address(i)+":4000"))
			}
		}
		return out, nil
	}, Admit: func(ctx context.Context) error { // in place of a store node's management API
		for i := range 9 {
			s.mu.Lock()
			n := s.nodes[i]
			s.mu.Unlock()
			if n != nil && n.Own.Allow(ctx, name, strings.HasPrefix(name, "store")) == nil {
				return nil
			}
		}
		return errors.New("no store node gives rights")
	}})
	must(s.t, err)
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// start runs store node i on the disk in dir.
func (s *site) start(i int, dir string, cached ...string) *node {
	s.t.Helper()
	chain, key, err := s.ca.Issue(pki.Subject{Name: s.name(i), Role: "store", Addresses: []string{s.address(i)}, DNSNames: []string{"store.site1.lab"}}, time.Hour)
	must(s.t, err)
	for name, text := range map[string][]byte{"node.crt": chain, "node.key": key, "ca.pem": s.pem} {
		must(s.t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	s.mu.Lock()
	n := &node{site: s, index: i}
	s.nodes[i] = n
	s.mu.Unlock()
	n.client = s.client(s.name(i), "store")
	own := s.client(s.name(i), "store", i)
	log := slog.New(slog.NewTextHandler(s.t.Output(), nil)).With("node", i)
	n.Membership = &etcd.Membership{
		Member: etcd.Member{
			Name: s.name(i), Token: "lab/site1", Address: s.address(i), Directory: filepath.Join(dir, "etcd"), ClientPort: 4000, PeerPort: 2380,
			CertFile: filepath.Join(dir, "node.crt"), KeyFile: filepath.Join(dir, "node.key"), CAFile: filepath.Join(dir, "ca.pem"), PeerName: "store.site1.lab",
		},
		Supervisor: &etcd.Supervisor{Log: log, Output: s.t.Output()}, Own: own, Site: n.client, Log: log, Founded: func(string) {},
		Documents: func() (string, map[string]string) {
			if len(cached) == 0 {
				return "", nil
			}
			return cached[0], map[string]string{"bgcf_json": `{"routes":[]}`}
		},
	}
	n.client.Announce(management.Registration{Name: s.name(i), Role: "store", Site: "site1", State: management.Ready})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.client.Run(ctx) })
	wg.Go(func() {
		if err := n.Membership.Run(ctx); err != nil && ctx.Err() == nil {
			s.t.Errorf("node %d ended: %v", i, err)
		}
	})
	n.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.nodes[i] == n {
			delete(s.nodes, i)
		}
	})
	s.t.Cleanup(n.stop)
	return n
}

// found starts the first node and lets it found the cluster.
func (s *site) found(dir string) *node {
	s.t.Helper()
	key, err := s.ca.KeyPEM()
	must(s.t, err)
	_, err = etcd.Member{Directory: filepath.Join(dir, "etcd")}.Order(management.BootstrapRequest{
		SiteCA: string(s.ca.CertificatePEM()), SiteCAKey: string(key), SharedConfig: map[string]string{"home_domain": "example.com"},
	}, dir, s.pem)
	must(s.t, err)
	n := s.start(1, dir)
	s.eventually(20*time.Second, n.Usable)
	return n
}

// kill ends the member and then the node, as a power cut does.
func (n *node) kill() {
	if pid := n.Supervisor.PID(); pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	n.stop()
}

func (s *site) eventually(limit time.Duration, f func() error) {
	s.t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			s.t.Fatalf("after %s: %v", limit, err)
		case <-tick.C:
		}
	}
}

// voters waits until exactly these nodes vote, and nobody else is a member.
func (s *site) voters(c *cluster.Client, want ...int) {
	s.t.Helper()
	s.eventually(40*time.Second, func() error {
		_, peers, err := c.Peers(s.t.Context())
		if err != nil {
			return err
		}
		there := map[string]bool{}
		for _, p := range peers {
			if p.Learner {
				return fmt.Errorf("%s has no vote yet", p.Name)
			}
			there[p.Name] = true
		}
		for _, i := range want {
			if !there[s.name(i)] {
				return fmt.Errorf("members are %v, want %v", there, want)
			}
		}
		if len(there) != len(want) {
			return fmt.Errorf("members are %v, want %v", there, want)
		}
		return nil
	})
}

// write puts a document, whatever it was.
func write(ctx context.Context, c *cluster.Client, text string) error {
	old, err := c.Document(ctx, "bgcf_json")
	if err != nil && !errors.Is(err, cluster.ErrNotFound) {
		return err
	}
	_, err = c.PutDocument(ctx, management.Document{Type: "bgcf_json", Text: text, Revision: old.Revision})
	return err
}

// TestMembersComeAndGo walks a site through 1, 3, 4, 3 and 1 store nodes, the leader among those who go. Configuration can be
// read and written at every step.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	s := newSite(t, "127.37.1")
	one := s.found(t.TempDir())
	two := s.start(2, t.TempDir())
	s.eventually(10*time.Second, two.Usable)
	s.voters(one.client, 1)
	if two.IsMember() {
		t.Error("of two store nodes both are members")
	}
	three := s.start(3, t.TempDir())
	s.voters(one.client, 1, 2, 3)
	must(t, write(t.Context(), three.client, "three"))
	four := s.start(4, t.TempDir())
	s.eventually(10*time.Second, four.Usable)
	if four.IsMember() {
		t.Error("a fourth store node is a member")
	}
	must(t, write(t.Context(), four.client, "four"))

	// The first node, which leads unless it lost an election, goes: the fourth takes its place.
	leaveCtx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	must(t, one.Leave(leaveCtx))
	one.stop()
	must(t, four.client.Forget(t.Context(), s.name(1)))
	s.voters(four.client, 2, 3, 4)
	must(t, write(t.Context(), two.client, "three again"))

	must(t, four.Leave(leaveCtx))
	four.stop()
	must(t, two.client.Forget(t.Context(), s.name(4)))
	s.eventually(20*time.Second, func() error {
		_, peers, err := two.client.Peers(t.Context())
		if err == nil && len(peers) != 1 {
			err = fmt.Errorf("%d members for two store nodes", len(peers))
		}
		return err
	})
	s.eventually(10*time.Second, two.Usable)
	s.eventually(10*time.Second, three.Usable)
	must(t, three.Leave(leaveCtx))
	three.stop()
	must(t, two.client.Forget(t.Context(), s.name(3)))
	s.voters(two.client, 2)
	must(t, two.Leave(leaveCtx)) // nobody to hand over to
	s.eventually(10*time.Second, two.Usable)
	must(t, write(t.Context(), two.client, "alone"))
	d, err := two.client.Document(t.Context(), config.SharedFile)
	if err != nil || d.Text != "home_domain=example.com\n" || d.Author != "bootstrap" {
		t.Errorf("the shared configuration after all that: %+v, %v", d, err)
	}
}

// TestLostQuorumIsReadOnlyAndTold kills two of three members: reading goes on, writing is refused, and both come back with
// one of them.
func TestLostQuorumIsReadOnlyAndTold(t *testing.T) {
	t.Parallel()
	s := newSite(t, "127.37.2")
	one := s.found(t.TempDir())
	dir := t.TempDir()
	two, three := s.start(2, dir), s.start(3, t.TempDir())
	s.voters(one.client, 1, 2, 3)
	must(t, write(t.Context(), one.client, "before"))
	two.kill()
	s.eventually(10*time.Second, func() error { return write(t.Context(), one.client, "one is away") })
	three.kill()
	s.eventually(15*time.Second, func() error {
		if err := one.Usable(); !errors.Is(err, etcd.ErrQuorum) {
			return fmt.Errorf("the survivor says %w", err)
		}
		return nil
	})
	d, err := one.client.Document(t.Context(), "bgcf_json")
	if err != nil || d.Text != "one is away" {
		t.Errorf("reading without a quorum: %+v, %v", d, err)
	}
	if err := write(t.Context(), one.client, "no"); err == nil {
		t.Error("a write went through without a quorum")
	}
	_, members, err := one.client.Members(t.Context())
	if err != nil || len(members) != 3 {
		t.Errorf("members without a quorum: %+v, %v", members, err)
	}
	for _, m := range members {
		if m.Healthy {
			t.Errorf("member %s is called healthy", m.Name)
		}
	}
	two = s.start(2, dir)
	s.eventually(15*time.Second, two.Usable)
	s.eventually(15*time.Second, func() error { return write(t.Context(), one.client, "back") })
}

// TestRecover loses the disks of two of three members for good: the third goes on alone with all it has, and the others
// join it empty.
func TestRecover(t *testing.T) {
	t.Parallel()
	s := newSite(t, "127.37.3")
	one := s.found(t.TempDir())
	two, three := s.start(2, t.TempDir()), s.start(3, t.TempDir())
	s.voters(one.client, 1, 2, 3)
	must(t, write(t.Context(), one.client, "precious"))
	if _, err := one.Recover(t.Context()); !errors.Is(err, etcd.ErrHealthy) {
		t.Errorf("recovering a healthy cluster: %v", err)
	}
	two.kill()
	three.kill()
	s.eventually(15*time.Second, func() error {
		if !errors.Is(one.Usable(), etcd.ErrQuorum) {
			return errors.New("it has not noticed")
		}
		return nil
	})
	from, err := one.Recover(t.Context())
	must(t, err)
	t.Log("recovered from", from)
	s.eventually(20*time.Second, one.Usable)
	s.eventually(10*time.Second, func() error { return write(t.Context(), one.client, "precious, still") })
	two, three = s.start(2, t.TempDir()), s.start(3, t.TempDir())
	s.voters(two.client, 1, 2, 3)
	d, err := three.client.Document(t.Context(), config.SharedFile)
	if err != nil || d.Text != "home_domain=example.com\n" {
		t.Errorf("the shared configuration is %+v, %v", d, err)
	}
}

// TestRecoverFromCopies has no member's data left: a new cluster comes from what a node has cached.
func TestRecoverFromCopies(t *testing.T) {
	t.Parallel()
	s := newSite(t, "127.37.4")
	n := s.start(2, t.TempDir(), "home_domain=example.com\n")
	if err := n.Usable(); err == nil {
		t.Fatal("usable without any cluster")
	}
	_, err := n.Recover(t.Context())
	must(t, err)
	s.eventually(20*time.Second, n.Usable)
	d, err := n.client.Document(t.Context(), "bgcf_json")
	if err != nil || d.Text != `{"routes":[]}` || d.Author != "recovered from the disk of store-2.site1" {
		t.Errorf("the document is %+v, %v", d, err)
	}
}

// TestLostDisk empties the disk of one of three members while it is down: it comes back as a member.
func TestLostDisk(t *testing.T) {
	t.Parallel()
	s := newSite(t, "127.37.5")
	one := s.found(t.TempDir())
	s.start(2, t.TempDir())
	dir := t.TempDir()
	three := s.start(3, dir)
	s.voters(one.client, 1, 2, 3)
	three.kill()
	must(t, os.RemoveAll(filepath.Join(dir, "etcd", "data")))
	s.eventually(20*time.Second, func() error { return write(t.Context(), one.client, "meanwhile") })
	three = s.start(3, dir)
	s.eventually(30*time.Second, three.Usable)
	s.voters(one.client, 1, 2, 3)
}

// TestRights connects with certificates of nodes that are no stores: they read documents and write their own entry, and
// nothing else.
func TestRights(t *testing.T) {
	t.Parallel()
	s := newSite(t, "127.37.6")
	one := s.found(t.TempDir())
	must(t, write(t.Context(), one.client, "public"))
	must(t, one.client.PutToken(t.Context(), "edge-2.site1", management.Token{SHA256: "secret"}))
	must(t, one.client.Allow(t.Context(), "router-1.site1", false))
	must(t, one.client.Allow(t.Context(), "router-2.site1", false))
	router := s.client("router-1.site1", "router")

	if d, err := router.Document(t.Context(), config.SharedFile); err != nil || d.Text == "" {
		t.Errorf("a router cannot read its configuration: %+v, %v", d, err)
	}
	if err := write(t.Context(), router, "mine"); !cluster.Denied(err) {
		t.Errorf("a router writes configuration: %v", err)
	}
	if _, err := router.Token(t.Context(), "edge-2.site1"); !cluster.Denied(err) {
		t.Errorf("a router reads join tokens: %v", err)
	}
	if err := router.Forget(t.Context(), "router-2.site1"); !cluster.Denied(err) {
		t.Errorf("a router forgets another node: %v", err)
	}
	if _, err := router.AddLearner(t.Context(), "https://127.37.6.99:2380"); !cluster.Denied(err) {
		t.Errorf("a router adds a member: %v", err)
	}
	if err := router.Allow(t.Context(), "router-1.site1", true); !cluster.Denied(err) {
		t.Errorf("a router gives itself rights: %v", err)
	}
	for name, wants := range map[string]bool{"router-1.site1": true, "router-2.site1": false} {
		impostor := s.client("router-1.site1", "router") // says it is name
		impostor.Announce(management.Registration{Name: name, Role: "router", Site: "site1", State: management.Ready})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { _ = impostor.Run(ctx); close(done) }()
		limit := time.Second
		if wants {
			limit = 5 * time.Second
		}
		appeared := false
		for began := time.Now(); time.Since(began) < limit && !appeared; <-time.After(50 * time.Millisecond) {
			nodes, err := one.client.Nodes(t.Context())
			must(t, err)
			for _, n := range nodes {
				appeared = appeared || n.Name == name
			}
		}
		if appeared != wants {
			t.Errorf("router-1 registers %s: %v, want %v", name, appeared, wants)
		}
		cancel()
		<-done
	}
	stranger, err := pki.NewDeploymentCA("other")
	must(t, err)
	chain, key, err := stranger.Issue(pki.Subject{Name: "store-1.site1", Role: "store"}, time.Hour)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := s.open("x", s.tls(chain, key)).Document(ctx, config.SharedFile); err == nil {
		t.Error("a certificate of another deployment reads configuration")
	}
	// A node that etcd does not know, for it was set up anew, asks for its rights and gets them.
	must(t, one.client.Disallow(t.Context(), "router-1.site1"))
	seen := make(chan string, 1)
	watchCtx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = router.Watch(watchCtx, func(d management.Document) {
			select {
			case seen <- d.Text:
			default:
			}
		})
	}()
	select {
	case <-seen:
	case <-time.After(10 * time.Second):
		t.Error("a node without rights does not get them again")
	}
	stop()
	<-done
}
