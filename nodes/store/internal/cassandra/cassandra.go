// Package cassandra drives this node's Cassandra: it renders its configuration (render.go), runs it as a supervised
// child (supervisor.go, process.go), tells whether it is Up and Normal (watch.go), makes and migrates the keyspace
// (schema.go) and carries out what changes the ring: replication, decommission, replacement, repair, snapshots
// (ring.go). It does not know what is stored; the engine package does.
package cassandra

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Ports of Cassandra; all of them speak TLS.
const (
	PortStorage = 7000 // between nodes
	PortCQL     = 9042 // clients: the store nodes of this site
)

const (
	// DefaultHeapMB is the Java heap where nothing else is said; a store for 100 000 subscribers lives in it.
	DefaultHeapMB = 512

	defaultRingDelay = 10 * time.Second
	tokens           = 4 // per node, placed by Cassandra so that the shares are even: each more makes repairs longer
)

// Node is how this node's Cassandra runs.
type Node struct {
	Home       string   // folder whose lib/ holds Cassandra's jars
	Java       string   // the program; empty: JAVA_HOME's, or the one on PATH
	Directory  string   // of its data, configuration and logs
	Cluster    string   // name; nodes of different clusters refuse each other
	Address    string   // listened on and advertised
	Datacenter string   // the site
	Rack       string   // "" is one rack for all
	Seeds      []string // addresses of nodes that are in the ring; a node that names only itself founds one
	Replace    string   // address of the dead node whose place this one takes at its first start
	HeapMB     int
	RingDelay  time.Duration // how long the others are given to see a change of the ring; 0: 10 s
	JVM        []string      // further options of the Java machine
	CertFile   string        // PEM: this node's certificate chain
	KeyFile    string        // PEM: its key
	CAFile     string        // PEM: who signs certificates of nodes
}

// Check says what makes the node impossible to run, before a Java machine is started for it.
func (n Node) Check() error {
	if _, err := n.jars(); err != nil {
		return err
	}
	if _, err := n.java(); err != nil {
		return err
	}
	switch {
	case n.Cluster == "" || n.Address == "" || n.Datacenter == "" || n.Directory == "":
		return errors.New("cassandra: cluster, address, data centre and directory must be given")
	case len(n.Seeds) == 0:
		return errors.New("cassandra: no seeds: it needs the address of a node that is in the ring, or its own to found one")
	}
	return nil
}

func (n Node) jars() ([]string, error) {
	jars, err := filepath.Glob(filepath.Join(n.Home, "lib", "*.jar"))
	if err == nil && !slices.ContainsFunc(jars, func(j string) bool { return strings.HasPrefix(filepath.Base(j), "cassandra-all-") }) {
		err = errors.New("there is no cassandra-all jar")
	}
	if err != nil {
		return nil, fmt.Errorf("cassandra: looking for its jars in %s: %w", filepath.Join(n.Home, "lib"), err)
	}
	return jars, nil
}

func (n Node) heap() int {
	if n.HeapMB > 0 {
		return n.HeapMB
	}
	return DefaultHeapMB
}

func (n Node) ringDelay() time.Duration {
	if n.RingDelay > 0 {
		return n.RingDelay
	}
	return defaultRingDelay
}

func (n Node) path(parts ...string) string {
	return filepath.Join(append([]string{n.Directory}, parts...)...)
}

// Joined tells whether this node has been in the ring: then it comes back as who it was.
func (n Node) Joined() bool {
	_, err := os.Stat(n.path(joinedFile))
	return err == nil
}

// Driver is this node's Cassandra and everything that is done with it.
type Driver struct {
	Supervisor *Supervisor
	Watch      *Watch
	Ring       *Ring
}

// New puts the parts together for a node. It starts nothing: Supervisor.Run and Watch.Run do. node is asked at every
// start, since seeds change; tls is what this node shows and expects as a client of its own and other nodes.
func New(node func() Node, tls *tls.Config, output io.Writer, log *slog.Logger) *Driver {
	s := &Supervisor{Node: node, Output: output, Log: log}
	w := &Watch{Address: node().Address, TLS: tls, Died: s.Reason, Log: log}
	return &Driver{Supervisor: s, Watch: w, Ring: &Ring{Node: node, JMX: s.JMX, Session: w.Session, Log: log}}
}
