package cassandra

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gocql/gocql"
	"golang.org/x/sync/errgroup"
)

const (
	peersFile  = "peers.json" // addresses of the other nodes, for a start while the cluster is away
	joinedFile = "joined"     // there once this node has been in the ring
	repairFile = "repaired"   // its time is that of the last repair

	retry       = time.Second
	askLimit    = 3 * time.Second // for the cluster, where there is another way
	repairEvery = 5 * 24 * time.Hour
	repairLook  = 10 * time.Minute
)

// Site is what a node agrees on with the other store nodes of its site; *cluster.Client is one.
type Site interface {
	Locker
	// FoundRing says who founds the ring: node, unless somebody was first; and whether it is there already.
	FoundRing(ctx context.Context, node string) (founder string, there bool, err error)
	// RingFounded notes that the ring is there: from then on nobody founds one.
	RingFounded(ctx context.Context) error
	// StoreAddresses lists the other store nodes.
	StoreAddresses(ctx context.Context, but string) ([]string, error)
}

// LifeConfig is what a Life works with.
type LifeConfig struct {
	Name   string // of the node: store-1.site1
	Node   Node   // without Seeds and Replace
	TLS    *tls.Config
	Site   Site
	Schema []Migration
	Opened func(*gocql.Session) // called once, when rows can be read and written; the session is then the callee's
	Output io.Writer            // of the Java machine
	Log    *slog.Logger
}

// Life is the life of a node in the ring: it founds the ring or joins it, one node at a time, brings the schema and the
// replicas to where they should be, opens the engine, repairs now and then, and leaves.
type Life struct {
	LifeConfig

	driver   *Driver
	settings atomic.Pointer[Node]
	phase    atomic.Pointer[error] // why rows cannot be served; a nil error when they can
	opened   bool                  // used by one goroutine
	left     atomic.Bool
}

// NewLife returns the life of a node. Run lives it.
func NewLife(c LifeConfig) *Life {
	l := &Life{LifeConfig: c}
	l.settings.Store(&c.Node)
	l.set(errStarting)
	l.driver = New(func() Node { return *l.settings.Load() }, c.TLS, c.Output, c.Log)
	return l
}

// Usable returns nil while this node's Cassandra is Up and Normal and the engine is open.
func (l *Life) Usable() error {
	if err := *l.phase.Load(); err != nil {
		return err
	}
	return l.driver.Watch.Usable()
}

func (l *Life) set(err error) { l.phase.Store(&err) }

// Run lives until ctx ends.
func (l *Life) Run(ctx context.Context) error {
	if l.Node.Joined() {
		return l.comeBack(ctx)
	}
	return l.join(ctx)
}

// comeBack starts a node that has been in the ring. It needs nobody's consent.
func (l *Life) comeBack(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, askLimit)
	peers, err := l.Site.StoreAddresses(asking, l.Name)
	cancel()
	if err != nil {
		if peers, err = l.remembered(); err != nil {
			return err
		}
	}
	l.use(append(peers, l.Node.Address), "")
	return l.live(ctx, func(ctx context.Context) error {
		if err := l.opening(ctx); err != nil { // the others serve rows while this node's Cassandra starts
			return err
		}
		return l.complete(ctx, l.Site)
	})
}

// join starts a node for the first time, holding the ring until it is in it and its part of the rows is there.
func (l *Life) join(ctx context.Context) error {
	l.set(errors.New("waiting for the other store nodes: one joins the ring at a time"))
	var unlock func()
	for {
		held, give, err := l.Site.Lock(ctx, lockRing)
		if err != nil {
			return l.unlessEnded(ctx, err)
		}
		unlock = give
		if err = l.prepare(held); err == nil {
			break
		}
		unlock()
		l.set(err)
		l.Log.Warn("joining the Cassandra ring", "error", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retry):
		}
	}
	defer unlock()
	return l.live(ctx, func(ctx context.Context) error {
		defer unlock()
		return l.complete(ctx, alreadyLocked{l.Site})
	})
}

// unlessEnded is nil for what the end of ctx has caused.
func (l *Life) unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// prepare decides how this node comes into the ring: it founds it, joins it, or takes its own place again, whose disk
// was lost.
func (l *Life) prepare(ctx context.Context) error {
	founder, there, err := l.Site.FoundRing(ctx, l.Name)
	if err != nil {
		return err
	}
	if founder == l.Name && !there {
		l.use([]string{l.Node.Address}, "")
		return nil
	}
	others, err := l.Site.StoreAddresses(ctx, l.Name)
	if err != nil {
		return err
	}
	members, err := l.membersOf(ctx, others)
	if err != nil {
		return fmt.Errorf("joining the Cassandra ring that %s founded: %w", founder, err)
	}
	replace := ""
	if slices.Contains(members, l.Node.Address) {
		replace = l.Node.Address
	}
	l.use(slices.DeleteFunc(members, func(a string) bool { return a == l.Node.Address }), replace)
	return nil
}

// membersOf asks the other store nodes' Cassandras who is in the ring.
func (l *Life) membersOf(ctx context.Context, others []string) ([]string, error) {
	if len(others) == 0 {
		return nil, errors.New("no other store node is there")
	}
	var errs []error
	for _, address := range others {
		session, err := Connect(Connection{Hosts: []string{address}, Alone: true, TLS: l.TLS, Log: l.Log})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		members := []string{address}
		iter := session.Query(`SELECT peer FROM system.peers_v2`).WithContext(ctx).Consistency(gocql.One).Iter()
		for peer := ""; iter.Scan(&peer); {
			members = append(members, peer)
		}
		err = iter.Close()
		session.Close()
		if err == nil {
			return members, nil
		}
		errs = append(errs, fmt.Errorf("asking %s for the ring: %w", address, err))
	}
	return nil, errors.Join(errs...)
}

// use sets the seeds, and remembers them for a start while the cluster is away.
func (l *Life) use(seeds []string, replace string) {
	n := l.Node
	n.Seeds, n.Replace = seeds, replace
	l.settings.Store(&n)
	text, err := json.Marshal(seeds)
	if err == nil {
		if err = os.MkdirAll(n.Directory, 0o700); err == nil {
			err = writeFile(n.path(peersFile), text)
		}
	}
	if err != nil {
		l.Log.Error("remembering the other nodes", "error", err)
	}
}

func (l *Life) remembered() (peers []string, err error) {
	text, err := os.ReadFile(l.Node.path(peersFile))
	if err == nil {
		err = json.Unmarshal(text, &peers)
	}
	if err != nil {
		return nil, fmt.Errorf("reading who the other nodes were: %w", err)
	}
	return peers, nil
}

// live runs Cassandra until ctx ends; complete is what is to be done once it is Up and Normal.
func (l *Life) live(ctx context.Context, complete func(context.Context) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.driver.Supervisor.Run(ctx) })
	g.Go(func() error { return l.driver.Watch.Run(ctx) })
	g.Go(func() error {
		if err := complete(ctx); err != nil {
			return l.unlessEnded(ctx, err)
		}
		l.set(nil)
		return l.repairs(ctx)
	})
	return g.Wait()
}

// complete brings schema and replicas to where they should be, and opens the engine. What fails is tried again: a node
// that has just come may find others on their way.
func (l *Life) complete(ctx context.Context, locks Locker) error {
	l.set(errStarting)
	if err := l.driver.Watch.Await(ctx); err != nil {
		return err
	}
	for {
		err := l.joined(ctx)
		if err == nil {
			err = l.migrate(ctx, locks)
		}
		if err == nil {
			err = l.open()
		}
		if err == nil {
			err = l.raise(ctx, locks)
		}
		if err == nil {
			return nil
		}
		l.set(err)
		if ctx.Err() == nil {
			l.Log.Warn("completing the Cassandra ring", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry):
		}
	}
}

// joined records that this node is in the ring, here and, if it is the first, for the others.
func (l *Life) joined(ctx context.Context) error {
	if l.Node.Joined() {
		return nil
	}
	founder, there, err := l.Site.FoundRing(ctx, l.Name)
	if err == nil && founder == l.Name && !there {
		err = l.Site.RingFounded(ctx)
	}
	if err != nil {
		return err
	}
	if err := writeFile(l.Node.path(joinedFile), nil); err != nil {
		return fmt.Errorf("recording that this node is in the ring: %w", err)
	}
	return nil
}

// migrate migrates the schema unless it is where it should be, which needs no lock.
func (l *Life) migrate(ctx context.Context, locks Locker) error {
	session, err := l.driver.Watch.Session()
	if err != nil {
		return err
	}
	if replication, err := replicationOf(ctx, session, Keyspace); err == nil && replication != nil {
		if at, err := schemaVersion(ctx, session); err == nil && at >= l.Schema[len(l.Schema)-1].Version {
			return nil
		}
	}
	return Migrate(ctx, session, l.Node.Datacenter, l.Schema, locks, l.Log)
}

// raise raises the replicas unless there are as many as there should be.
func (l *Life) raise(ctx context.Context, locks Locker) error {
	session, err := l.driver.Watch.Session()
	if err != nil {
		return err
	}
	by, err := replicationOf(ctx, session, Keyspace)
	if err != nil {
		return err
	}
	nodes := 1
	iter := session.Query(`SELECT data_center FROM system.peers_v2`).WithContext(ctx).Consistency(gocql.One).Iter()
	for dc := ""; iter.Scan(&dc); {
		if dc == l.Node.Datacenter {
			nodes++
		}
	}
	if err := iter.Close(); err != nil {
		return fmt.Errorf("counting the nodes of the ring: %w", err)
	}
	if by[l.Node.Datacenter] >= min(nodes, Replicas) {
		return nil
	}
	return Locked(ctx, locks, l.driver.Ring.Raise)
}

// open connects to the ring for the engine, if it has not yet.
func (l *Life) open() error {
	if l.opened {
		return nil
	}
	session, err := Connect(Connection{Hosts: l.settings.Load().hosts(), Datacenter: l.Node.Datacenter, TLS: l.TLS, Log: l.Log})
	if err != nil {
		return err
	}
	l.Opened(session)
	l.opened = true
	return nil
}

// opening opens the engine as soon as some node of the ring answers.
func (l *Life) opening(ctx context.Context) error {
	for {
		err := l.open()
		if err == nil {
			return nil
		}
		l.set(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retry):
		}
	}
}

// hosts are those to begin with: this node first.
func (n Node) hosts() []string {
	hosts := []string{n.Address}
	for _, seed := range n.Seeds {
		if seed != n.Address {
			hosts = append(hosts, seed)
		}
	}
	return hosts
}

// Leave takes this node out of the ring, for good.
func (l *Life) Leave(ctx context.Context) error {
	if l.left.Load() {
		return nil
	}
	err := Locked(ctx, l.Site, func(ctx context.Context) error {
		members, err := l.driver.Ring.Members(ctx)
		if err != nil {
			return err
		}
		if len(members) == 1 {
			l.Log.Warn("the last node of the ring goes, and its rows with it")
			return nil
		}
		return l.driver.Ring.Decommission(ctx)
	})
	if err == nil {
		l.left.Store(true)
	}
	return err
}

// repairs repairs this node's part when the last time is long enough ago, and frees what other nodes hold now. It must
// come round within the ten days for which Cassandra remembers deletions.
func (l *Life) repairs(ctx context.Context) error {
	tick := time.NewTicker(repairLook)
	defer tick.Stop()
	for {
		last := time.Time{}
		if info, err := os.Stat(l.Node.path(repairFile)); err == nil {
			last = info.ModTime()
		} else if err := writeFile(l.Node.path(repairFile), nil); err != nil { // a new node has just been repaired
			l.Log.Error("recording the repair", "error", err)
		}
		if !last.IsZero() && time.Since(last) > repairEvery {
			l.repair(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (l *Life) repair(ctx context.Context) {
	started := time.Now()
	err := Locked(ctx, l.Site, func(ctx context.Context) error {
		if err := l.driver.Ring.RepairOwn(ctx); err != nil {
			return err
		}
		return l.driver.Ring.Cleanup(ctx)
	})
	if err == nil {
		err = writeFile(l.Node.path(repairFile), nil)
	}
	if err != nil {
		if ctx.Err() == nil {
			l.Log.Error("the scheduled repair", "error", err)
		}
		return
	}
	l.Log.Info("the scheduled repair is done", "took", time.Since(started).Round(time.Second).String())
}

// alreadyLocked is a Locker for who holds the ring.
type alreadyLocked struct{ Locker }

func (a alreadyLocked) Lock(ctx context.Context, name string) (context.Context, func(), error) {
	if name == lockRing {
		return ctx, func() {}, nil
	}
	return a.Locker.Lock(ctx, name)
}
