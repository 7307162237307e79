package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/gocql/gocql"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/service"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/cassandra"
	engine "github.com/clearwater-ims/clearwater/nodes/store/internal/engine/cassandra"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/late"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/metered"
)

// installed is where the images have Cassandra.
const installed = "/usr/share/clearwater/cassandra"

// openCassandra prepares this node's Cassandra, which its run starts, and an engine that opens when the ring is there.
func openCassandra(n *service.Node) (backend, error) {
	o, directory := n.Options(), filepath.Join(dataOf(n.Identity), "cassandra")
	directory, err := filepath.Abs(directory)
	if err != nil {
		return backend{}, fmt.Errorf("preparing Cassandra: %w", err)
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return backend{}, fmt.Errorf("preparing Cassandra: %w", err)
	}
	roots := filepath.Join(directory, "ca.pem")
	if err := os.WriteFile(roots, n.Identity.Roots(), 0o600); err != nil {
		return backend{}, fmt.Errorf("preparing Cassandra: %w", err)
	}
	cert, key := n.Identity.Files()
	node := cassandra.Node{
		Home: cassandraHome(o), Directory: directory, Cluster: o.DeploymentID, Address: o.LocalIP, Datacenter: o.Site,
		Rack: o.CassandraRack, Seeds: []string{o.LocalIP}, HeapMB: o.CassandraHeapMB, RingDelay: o.CassandraRingDelay,
		CertFile: cert, KeyFile: key, CAFile: roots,
	}
	if err := node.Check(); err != nil {
		return backend{}, fmt.Errorf("option store_engine=cassandra: %w", err)
	}
	rows := &late.Engine{}
	life := cassandra.NewLife(cassandra.LifeConfig{
		Name: n.Name(), Node: node, TLS: n.Identity.Client(config.Store), Site: n.Cluster, Schema: engine.Schema(),
		Opened: func(s *gocql.Session) {
			if err := rows.Open(engine.New(s)); err != nil {
				n.Log.Error("closing the engine", "error", err)
			}
		},
		Output: os.Stderr, Log: n.Log,
	})
	return backend{Engine: metered.New(rows, n.Metrics), shared: true, run: life.Run, usable: life.Usable, leave: life.Leave}, nil
}

// cassandraHome is the folder whose lib/ holds Cassandra's jars.
func cassandraHome(o *config.Options) string {
	if o.CassandraDirectory != "" {
		return o.CassandraDirectory
	}
	if program, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(program), "cassandra")
		if _, err := os.Stat(filepath.Join(beside, "lib")); err == nil {
			return beside
		}
	}
	return installed
}
