package cassandra

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/gocql/gocql"
)

// Ring is what is done with the ring from this node, through Cassandra's own tool. One thing at a time: who calls
// what changes it holds the lock (Locked).
type Ring struct {
	Node    func() Node
	JMX     func() JMX
	Session func() (*gocql.Session, error)
	Log     *slog.Logger
}

// Member is a node of the ring as this one sees it.
type Member struct {
	Address, HostID, Datacenter string
	Up                          bool
	State                       string // N normal, L leaving, J joining, M moving
}

// Locked runs f with the lock of the ring; its context ends when the lock is lost.
func Locked(ctx context.Context, locks Locker, f func(ctx context.Context) error) error {
	held, unlock, err := locks.Lock(ctx, lockRing)
	if err != nil {
		return fmt.Errorf("locking the ring: %w", err)
	}
	defer unlock()
	return f(held)
}

var memberLine = regexp.MustCompile(`^([UD])([NLJM])\s+(\S+)\s.*\s([0-9a-f]{8}-[0-9a-f-]{27})\s`)

// Members lists the nodes.
func (r *Ring) Members(ctx context.Context) ([]Member, error) {
	text, err := r.tool(ctx, "status")
	if err != nil {
		return nil, err
	}
	var out []Member
	datacenter := ""
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "Datacenter: "); ok {
			datacenter = strings.TrimSpace(name)
		}
		if m := memberLine.FindStringSubmatch(line); m != nil {
			out = append(out, Member{Up: m[1] == "U", State: m[2], Address: m[3], HostID: m[4], Datacenter: datacenter})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("listing the ring: nothing understood of %q", text)
	}
	return out, nil
}

// Repair makes all replicas of the keyspace equal, and finishes compare-and-swaps that are under way.
func (r *Ring) Repair(ctx context.Context) error {
	_, err := r.tool(ctx, "repair", "--full", Keyspace)
	return err
}

// RepairOwn repairs the part that this node is the first replica of: done on every node, it repairs everything once.
func (r *Ring) RepairOwn(ctx context.Context) error {
	_, err := r.tool(ctx, "repair", "--full", "-pr", Keyspace)
	return err
}

// Cleanup removes rows that belong to other nodes since the ring has grown.
func (r *Ring) Cleanup(ctx context.Context) error {
	_, err := r.tool(ctx, "cleanup", Keyspace)
	return err
}

// Decommission takes this node out of the ring: with as many nodes as replicas the replicas are lowered first, then its
// part is streamed to the others. It returns when the node has left; what then runs is a Cassandra without a ring.
func (r *Ring) Decommission(ctx context.Context) error {
	members, err := r.Members(ctx)
	if err != nil {
		return err
	}
	site, stay := r.Node().Datacenter, 0
	for _, m := range members {
		switch {
		case m.Datacenter != site || m.Address == r.Node().Address:
		case !m.Up:
			return fmt.Errorf("leaving the ring: %s is down, and its copy may be needed; bring it back or replace it first", m.Address)
		default:
			stay++
		}
	}
	if stay == 0 {
		return errors.New("leaving the ring: this is the last node of the site, and its rows would be lost")
	}
	if err := r.replicate(ctx, func(int) int { return min(stay, Replicas) }); err != nil {
		return err
	}
	// Forced, since Cassandra's own keyspaces ask for more replicas than a small ring has; ours fits, see above.
	_, err = r.tool(ctx, "decommission", "--force")
	return err
}

// Remove takes a dead node out of the ring; the others copy among themselves what it held.
func (r *Ring) Remove(ctx context.Context, hostID string) error {
	_, err := r.tool(ctx, "removenode", hostID)
	return err
}

// Snapshot keeps the keyspace's files as they are now under a name, and returns the folders that hold them: links, that
// cost nothing until the files change.
func (r *Ring) Snapshot(ctx context.Context, name string) ([]string, error) {
	if _, err := r.tool(ctx, "snapshot", "-t", name, Keyspace); err != nil {
		return nil, err
	}
	return filepath.Glob(r.Node().path("data", Keyspace, "*", "snapshots", name))
}

// ForgetSnapshot deletes what Snapshot kept.
func (r *Ring) ForgetSnapshot(ctx context.Context, name string) error {
	_, err := r.tool(ctx, "clearsnapshot", "-t", name, "--", Keyspace)
	return err
}

// tool runs nodetool against this node's Cassandra.
func (r *Ring) tool(ctx context.Context, args ...string) (string, error) {
	n, jmx := r.Node(), r.JMX()
	java, err := n.java()
	if err != nil {
		return "", err
	}
	home := n.path("tmp", "nodetool")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", fmt.Errorf("preparing nodetool: %w", err)
	}
	all := append(strings.Fields(openings),
		"-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Duser.home="+home, "-Dcassandra.storagedir="+home,
		"-cp", filepath.Join(n.Home, "lib", "*"), "org.apache.cassandra.tools.NodeTool",
		"-h", "127.0.0.1", "-p", strconv.Itoa(jmx.Port), "-u", "store", "-pwf", n.path("conf", passwordFile))
	all = append(all, args...)
	cmd := exec.CommandContext(ctx, java, all...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", fmt.Errorf("nodetool %s: %s (%w)", strings.Join(args, " "), lastLine(out.String(), problems.String()), err)
	}
	return out.String(), nil
}

// lastLine is what nodetool says went wrong.
func lastLine(texts ...string) string {
	last := "no reason given"
	for _, text := range texts {
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			if line != "" && !strings.HasPrefix(line, "at ") && !strings.HasPrefix(line, "WARNING") && !strings.Contains(line, "SLF4J") && !strings.Contains(line, "[main]") {
				last = line
			}
		}
	}
	return last
}
