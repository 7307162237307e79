package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
	"github.com/clearwater-ims/clearwater/nodes/internal/httpserver"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
	"github.com/clearwater-ims/clearwater/nodes/internal/service"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/backup"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/clusterapi"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/due"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/embedded"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/metered"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/etcd"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/record"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/registration"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/rollout"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/shard"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/timer"
)

// part is something that runs as long as the node serves.
type part struct {
	name string
	run  func(context.Context) error
}

// store is the running role.
type store struct {
	node   *service.Node
	engine backend
	shards *shard.Keeper // nil where this node has the engine to itself
	etcd   *etcd.Membership
	own    *cluster.Client // of this node's etcd member
	parts  []part
}

// backend is the engine and what drives it.
type backend struct {
	engine.Engine

	shared bool                            // other store nodes write to it as well
	run    func(ctx context.Context) error // keeps it running until ctx ends; nil: nothing runs
	usable func() error                    // why it cannot serve now; nil: it always can
	leave  func(ctx context.Context) error // hands this node's data over for good; nil: there is nobody
}

// newStore opens the engine and the listeners and puts the parts together.
func newStore(ctx context.Context, n *service.Node, open openFunc, founded func(clusterID string)) (_ service.Running, err error) {
	s := &store{node: n}
	if s.engine, err = open(ctx, n); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.engine.Close())
		}
	}()
	rows := record.New(s.engine)
	backups := s.backups(rows)
	if err := s.openCluster(founded, backups); err != nil {
		return nil, err
	}
	o, out := n.Options(), newHTTPClient(n.Resolver())
	owner := s.shareOut()
	registered := registration.New(registration.Config{Writer: n.Name(), Owner: owner, Log: n.Log, Lapse: lapse(n.Options, out)}, s.engine, n.Metrics)
	timers := timer.New(s.engine, owner, timer.HTTPPop(out), n.Log, n.Metrics)
	calls, err := listen("calls of other roles", o.LocalIP, config.PortStoreRPC)
	if err != nil {
		return nil, err
	}
	timersHTTP, err := newTimersHTTP(ctx, n, timers.Handler())
	if err != nil {
		return nil, errors.Join(err, calls.Close())
	}
	server := newRPC(n, registered, rows)
	s.parts = []part{
		{"registrations", registered.Run},
		{"timers", timers.Run},
		{"calls", func(ctx context.Context) error { return server.Serve(ctx, calls) }},
		{"restart queue", s.rollout().Run},
		{"backups", backups.Run},
		{"timer API", func(ctx context.Context) error { return serveHTTP(ctx, timersHTTP) }},
	}
	if s.shards != nil {
		s.parts = append(s.parts, part{"shards", s.runShards})
		n.Holds("shards", s.shards.Held)
	}
	n.ReadyWhen("etcd", s.etcd.Usable)
	if s.engine.usable != nil {
		n.ReadyWhen("engine", s.engine.usable)
	}
	n.Holds("timer_pops", timers.Popping)
	return s, nil
}

// restartLimit is how long a node may take to be ready after a restart was ordered: it drains, stops and starts.
const restartLimit = 2 * time.Minute

func (s *store) rollout() *rollout.Rollout {
	n := s.node
	return &rollout.Rollout{Cluster: n.Cluster, Limit: restartLimit, Now: time.Now, Log: n.Log,
		Order: func(ctx context.Context, node management.Registration) error {
			ctx, cancel := context.WithTimeout(ctx, stayLimit)
			defer cancel()
			c := management.NewClient(node.Manage, n.Identity.Client(config.Role(node.Role)))
			defer c.Close()
			return c.Restart(ctx)
		}}
}

// backupStagger is between the nightly backups of two nodes, as the manual has it.
const backupStagger = 5 * time.Minute

func (s *store) backups(rows *record.Service) *backup.Folder {
	n := s.node
	return &backup.Folder{
		Dir: filepath.Join(dataOf(n.Identity), "backups"), Log: n.Log, Stagger: time.Duration(n.Options().NodeIndex-1) * backupStagger,
		Source: &backup.Source{Engine: s.engine, Tables: rows.Tables, Note: rows.Note, Config: n.Cluster, Site: n.Options().Site, Now: time.Now},
	}
}

// shareOut decides who does due work: this node all of it, or the store nodes a part each.
func (s *store) shareOut() due.Owner {
	if !s.engine.shared {
		return due.All{}
	}
	s.shards = shard.New(s.node.Name(), due.Shards, s.node.Cluster, s.engine, s.node.Log, s.node.Metrics)
	return s.shards
}

// runShards takes part in the due work as soon as the engine is usable: what a node has taken that cannot work, nobody does.
func (s *store) runShards(ctx context.Context) error {
	for s.engine.usable != nil && s.engine.usable() != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(usablePoll):
		}
	}
	return s.shards.Run(ctx)
}

// usablePoll is between two looks at an engine that is starting.
const usablePoll = 200 * time.Millisecond

// openFunc opens the engine that a node is configured for.
type openFunc func(ctx context.Context, n *service.Node) (backend, error)

// openEngine opens the engine that the option store_engine names.
func openEngine(_ context.Context, n *service.Node) (backend, error) {
	if n.Options().StoreEngine == "cassandra" {
		return openCassandra(n)
	}
	e, err := embedded.Open(embedded.Config{Dir: filepath.Join(dataOf(n.Identity), "engine"), Log: n.Log})
	if err != nil {
		return backend{}, fmt.Errorf("opening the engine: %w", err)
	}
	return backend{Engine: metered.New(e, n.Metrics)}, nil
}

// openCluster prepares the etcd member, this node's client of it and the management calls that need it.
func (s *store) openCluster(founded func(clusterID string), backups *backup.Folder) error {
	n, o := s.node, s.node.Options()
	address, err := netip.ParseAddr(o.LocalIP)
	if err != nil {
		return fmt.Errorf("option local_ip: %w", err)
	}
	own := netip.AddrPortFrom(address, config.PortEtcdClient)
	s.own, err = cluster.New(cluster.Config{
		Site: o.Site, TLS: n.Identity.Client(config.Store), Log: n.Log,
		Resolve: func(context.Context) ([]netip.AddrPort, error) { return []netip.AddrPort{own}, nil },
	})
	if err != nil {
		return err
	}
	member, err := newMember(n)
	if err != nil {
		return err
	}
	keys := keysOf(n.Identity)
	s.etcd = &etcd.Membership{
		Member: member, Own: s.own, Site: n.Cluster, Founded: founded, Log: n.Log,
		Supervisor: &etcd.Supervisor{Log: n.Log, Output: os.Stderr},
		Prepare:    func(ctx context.Context) error { return fetchAuthority(ctx, n, keys) },
		Documents: func() (string, map[string]string) {
			return etcd.Cached(func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(n.Folder(), name)) })
		},
	}
	(&clusterapi.API{
		Documents: n.Cluster, Tokens: n.Cluster, Registry: n.Cluster, Etcd: n.Cluster, Queue: n.Cluster, Backups: backups, Recover: s.etcd.Recover,
		Options: n.Options, Log: n.Log, Authority: authority(keys),
	}).Register(n.Management)
	return nil
}

func newMember(n *service.Node) (etcd.Member, error) {
	o, directory := n.Options(), directoryOf(n.Identity)
	cert, key := n.Identity.Files()
	roots := filepath.Join(directory, "ca.pem")
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return etcd.Member{}, fmt.Errorf("preparing the etcd member: %w", err)
	}
	if err := os.WriteFile(roots, n.Identity.Roots(), 0o600); err != nil {
		return etcd.Member{}, fmt.Errorf("preparing the etcd member: %w", err)
	}
	return etcd.Member{
		Name: n.Name(), Token: o.DeploymentID + "/" + o.Site, Address: o.LocalIP, Directory: directory,
		ClientPort: config.PortEtcdClient, PeerPort: config.PortEtcdPeer,
		CertFile: cert, KeyFile: key, CAFile: roots, PeerName: "store." + o.Site + "." + o.Zone,
	}, nil
}

// Run serves until ctx ends: first the parts stop, then the etcd member and what drives the engine, last the engine is
// closed.
func (s *store) Run(ctx context.Context) error {
	below, stopBelow := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBelow()
	g, serving := errgroup.WithContext(ctx)
	for _, p := range s.parts {
		g.Go(func() error {
			if err := p.run(serving); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
	}
	ended := make(chan error, 1)
	go func() { ended <- s.runBelow(below) }()
	g.Go(func() error {
		select {
		case <-serving.Done():
			return nil
		case err := <-ended:
			ended <- err
			return err
		}
	})
	err := g.Wait()
	stopBelow()
	if last := <-ended; !errors.Is(err, last) && !errors.Is(last, context.Canceled) {
		err = errors.Join(err, last)
	}
	return errors.Join(err, s.own.Close(), s.engine.Close())
}

// runBelow runs what the parts stand on; it ends with the first that ends.
func (s *store) runBelow(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	below := []part{{"etcd", s.etcd.Run}}
	if s.engine.run != nil {
		below = append(below, part{"engine", s.engine.run})
	}
	for _, p := range below {
		g.Go(func() error {
			err := p.run(ctx)
			if err == nil && ctx.Err() == nil {
				err = errors.New("it ended by itself")
			}
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// Drain gives the due work to other store nodes, if there are any, and the leadership of etcd. Requests are answered until
// the node ends, and what it holds is in the engine.
func (s *store) Drain(ctx context.Context) error {
	s.etcd.Yield(ctx)
	if s.shards == nil {
		return nil
	}
	s.shards.Pause()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for s.shards.Held() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Leave hands over this node's data and its part of the cluster, to which it will not come back.
func (s *store) Leave(ctx context.Context) error {
	if s.engine.leave != nil {
		if err := s.engine.leave(ctx); err != nil {
			return fmt.Errorf("handing data over: %w", err)
		}
	}
	return s.etcd.Leave(ctx)
}

// Resume takes a drain back, and a decommission.
func (s *store) Resume() {
	if s.shards != nil {
		s.shards.Resume()
	}
	ctx, cancel := context.WithTimeout(context.Background(), stayLimit)
	defer cancel()
	if err := s.etcd.Stay(ctx); err != nil {
		s.node.Log.Warn("staying in the cluster", "error", err)
	}
}

// stayLimit is for one write to etcd.
const stayLimit = 5 * time.Second

func newRPC(n *service.Node, registered registrations.Service, rows records.Service) *rpc.Server {
	handlers, names := registrations.Handlers(registered), registrations.MethodNames()
	for m, h := range records.Handlers(rows) {
		handlers[m] = h
	}
	for m, name := range records.MethodNames() {
		names[m] = name
	}
	return rpc.NewServer(n.Identity.Server(config.Roles()...), handlers, n.Log).Instrument(n.Metrics, names)
}

func listen(what, ip string, port int) (net.Listener, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("opening the listener for %s: %w", what, err)
	}
	return ln, nil
}

// timersAtOnce is how many timer requests may wait for the disk together: they share its syncs.
const timersAtOnce = 2048

func newTimersHTTP(ctx context.Context, n *service.Node, h http.Handler) (*httpserver.Server, error) {
	server, err := httpserver.New(httpserver.Config{Name: "timers", MaxActive: timersAtOnce}, httpserver.Deps{Handler: h, Log: n.Log, Metrics: n.Metrics})
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort(n.Options().LocalIP, strconv.Itoa(config.PortTimers))
	if _, err := server.Listen(ctx, address, nil); err != nil {
		return nil, fmt.Errorf("timers: %w", err)
	}
	return server, nil
}

// serveHTTP serves until ctx ends; then it finishes what has arrived, for a few seconds at most.
func serveHTTP(ctx context.Context, server *httpserver.Server) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	defer context.AfterFunc(ctx, func() {
		graceful, cancel := context.WithTimeout(serving, 3*time.Second)
		defer cancel()
		_ = server.Drain(graceful) // what is left then is cut
		stop()
	})()
	return server.Run(serving)
}
