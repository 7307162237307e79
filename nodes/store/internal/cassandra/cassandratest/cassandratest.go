// Package cassandratest starts real Cassandras on loopback addresses, through the driver, for the tests of a package.
package cassandratest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/cassandra"
)

const (
	startLimit = 5 * time.Minute // on two cores, beside other suites
	heapMB     = 320
)

// Home finds the Cassandra that scripts/cassandra.sh has fetched.
func Home() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for Cassandra: %w", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("looking for Cassandra: no go.mod above this folder")
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "build", "cassandra", "*", "complete"))
	if err != nil || len(found) == 0 {
		return "", errors.New("there is no Cassandra in build/cassandra: run scripts/cassandra.sh, which gets it")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// Cluster is a number of nodes.
type Cluster struct {
	Nodes []*Node
	Roots []byte

	home, dir string
	ca        *pki.Authority
	block     int
}

// Node is one of them.
type Node struct {
	Settings cassandra.Node // change them while it is stopped
	Driver   *cassandra.Driver
	TLS      *tls.Config

	stop context.CancelFunc
	wg   sync.WaitGroup
	log  *os.File
}

// New prepares a cluster in dir, on the addresses 127.36.<block>.1 and up.
func New(dir string, block int) (*Cluster, error) {
	home, err := Home()
	if err != nil {
		return nil, err
	}
	ca, err := pki.NewDeploymentCA("test")
	if err != nil {
		return nil, err
	}
	return &Cluster{Roots: ca.CertificatePEM(), home: home, dir: dir, ca: ca, block: block}, nil
}

// Address of node n, from 1.
func (c *Cluster) Address(n int) string { return fmt.Sprintf("127.36.%d.%d", c.block, n) }

// Prepare makes a node without starting it.
func (c *Cluster) Prepare(seeds ...string) (*Node, error) {
	n := len(c.Nodes) + 1
	dir := filepath.Join(c.dir, fmt.Sprint("node", n))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	chain, key, err := c.ca.Issue(pki.Subject{Name: fmt.Sprintf("store-%d.site1", n), Role: "store", Addresses: []string{c.Address(n)}}, 0)
	if err != nil {
		return nil, err
	}
	err = errors.Join(os.WriteFile(filepath.Join(dir, "node.crt"), chain, 0o600),
		os.WriteFile(filepath.Join(dir, "node.key"), key, 0o600), os.WriteFile(filepath.Join(dir, "ca.pem"), c.Roots, 0o600))
	if err != nil {
		return nil, err
	}
	source, err := pki.Static(chain, key)
	if err != nil {
		return nil, err
	}
	pool, err := pki.Pool(c.Roots)
	if err != nil {
		return nil, err
	}
	if len(seeds) == 0 {
		seeds = []string{c.Address(1)}
	}
	node := &Node{TLS: pki.ClientTLS(pool, source, "store"), Settings: cassandra.Node{
		Home: c.home, Directory: filepath.Join(dir, "cassandra"), Cluster: "test", Address: c.Address(n), Datacenter: "site1", Seeds: seeds,
		HeapMB: heapMB, RingDelay: time.Second,
		// A test is over before the better compiler has paid; and a replacement waits for one broadcast.
		JVM:      []string{"-XX:TieredStopAtLevel=1", "-Dcassandra.broadcast_interval_ms=2000", "-Dcassandra.shutdown_announce_in_ms=200"},
		CertFile: filepath.Join(dir, "node.crt"), KeyFile: filepath.Join(dir, "node.key"), CAFile: filepath.Join(dir, "ca.pem"),
	}}
	c.Nodes = append(c.Nodes, node)
	return node, nil
}

// Start starts a node; Await waits for it.
func (n *Node) Start() error {
	if err := os.MkdirAll(n.Settings.Directory, 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(n.Settings.Directory, "output"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n.log = file
	settings := n.Settings
	n.Driver = cassandra.New(func() cassandra.Node { return settings }, n.TLS, file, slog.New(slog.NewTextHandler(file, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	n.wg.Go(func() { _ = n.Driver.Supervisor.Run(ctx) })
	n.wg.Go(func() { _ = n.Driver.Watch.Run(ctx) })
	return nil
}

// Await waits until the node is Up and Normal.
func (n *Node) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := n.Driver.Watch.Await(ctx); err != nil {
		said, _ := os.ReadFile(filepath.Join(n.Settings.Directory, "logs", "system.log"))
		return fmt.Errorf("%w; the end of its log: %s", err, said[max(0, len(said)-4000):])
	}
	return nil
}

// Stop ends the node in order.
func (n *Node) Stop() {
	if n.stop == nil {
		return
	}
	n.stop()
	n.wg.Wait()
	_ = n.log.Close()
	n.stop = nil
}

// Add starts one more node and waits until it is in the ring.
func (c *Cluster) Add(ctx context.Context) (*Node, error) {
	n, err := c.Prepare()
	if err != nil {
		return nil, err
	}
	if err := n.Start(); err != nil {
		return nil, err
	}
	return n, n.Await(ctx)
}

// Stop ends all nodes.
func (c *Cluster) Stop() {
	var wg sync.WaitGroup
	for _, n := range c.Nodes {
		wg.Go(n.Stop)
	}
	wg.Wait()
}

// NoLocks is a Locker for a test that is alone.
type NoLocks struct{}

// Lock is cassandra.Locker.Lock.
func (NoLocks) Lock(ctx context.Context, _ string) (context.Context, func(), error) {
	return ctx, func() {}, nil
}
