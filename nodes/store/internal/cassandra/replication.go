package cassandra

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/gocql/gocql"
)

// Replicas is how many nodes of a site keep each row once there are as many.
const Replicas = 3

// replicationOf reads the number of replicas by data centre; nil when there is no such keyspace.
func replicationOf(ctx context.Context, session *gocql.Session, keyspace string) (map[string]int, error) {
	var options map[string]string
	err := session.Query(`SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?`, keyspace).WithContext(ctx).
		Consistency(gocql.One).Scan(&options)
	if errors.Is(err, gocql.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the replication of %s: %w", keyspace, err)
	}
	out := map[string]int{}
	for name, value := range options {
		if name == "class" {
			continue
		}
		if out[name], err = strconv.Atoi(value); err != nil {
			return nil, fmt.Errorf("reading the replication of %s: %w", keyspace, err)
		}
	}
	return out, nil
}

func replicationText(by map[string]int) string {
	parts := []string{"'class': 'NetworkTopologyStrategy'"}
	for _, name := range slices.Sorted(maps.Keys(by)) {
		parts = append(parts, fmt.Sprintf("'%s': %d", name, by[name]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// Raise brings the replicas of this node's data centre to three, or as many as it has nodes, one step at a time with a
// full repair after each: until a repair has copied the rows, a quorum of the new number need not hold them.
func (r *Ring) Raise(ctx context.Context) error {
	return r.replicate(ctx, func(nodes int) int { return min(nodes, Replicas) })
}

// replicate moves the number of replicas to what want says for the nodes that there are.
func (r *Ring) replicate(ctx context.Context, want func(nodes int) int) error {
	members, err := r.Members(ctx)
	if err != nil {
		return err
	}
	site := r.Node().Datacenter
	nodes := 0
	for _, m := range members {
		if m.Datacenter == site && m.State == "N" {
			nodes++
		}
	}
	for {
		session, err := r.Session()
		if err != nil {
			return err
		}
		by, err := replicationOf(ctx, session, Keyspace)
		if err != nil {
			return err
		}
		to, now := want(nodes), by[site]
		switch {
		case now == to:
			return nil
		case now < to:
			err = r.step(ctx, by, now+1)
		default:
			err = r.step(ctx, by, now-1)
		}
		if err != nil {
			return err
		}
	}
}

// step changes the number of replicas by one. A repair comes after a raise, and before a lowering: the nodes that stay
// must hold everything.
func (r *Ring) step(ctx context.Context, by map[string]int, to int) error {
	site := r.Node().Datacenter
	raise := to > by[site]
	if !raise {
		if err := r.Repair(ctx); err != nil {
			return err
		}
	}
	by[site] = to
	session, err := r.Session() // a long repair may have outlived an earlier one
	if err != nil {
		return err
	}
	if err := change(ctx, session, `ALTER KEYSPACE `+Keyspace+` WITH replication = `+replicationText(by)); err != nil {
		return fmt.Errorf("setting the replicas to %d: %w", to, err)
	}
	r.Log.Info("the number of replicas was changed", "datacenter", site, "replicas", to)
	if raise {
		return r.Repair(ctx)
	}
	return nil
}
