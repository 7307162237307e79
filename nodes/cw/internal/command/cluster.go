package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
)

func (t *tool) clusterCommand() *cobra.Command {
	state := &cobra.Command{
		Use: "state", Short: "Show the nodes of the site and the members of its etcd (exit code 1 unless all is well)",
		Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error { return t.clusterState(c.Context()) },
	}
	return group("cluster", "State of the deployment", state, t.restartQueueCommand(), t.recoverCommand())
}

func (t *tool) cluster(ctx context.Context) (*management.Cluster, error) {
	c, err := store(ctx, t, func(ctx context.Context, c *management.Client) (*management.Cluster, error) { return c.Cluster(ctx) })
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's state: %w", err)
	}
	slices.SortFunc(c.Nodes, func(a, b management.Registration) int { return strings.Compare(a.Name, b.Name) })
	return c, nil
}

func (t *tool) clusterState(ctx context.Context) error {
	c, err := t.cluster(ctx)
	if err != nil {
		return err
	}
	well := c.Healthy
	nodes := newTable("NODE", "ROLE", "SITE", "ADDRESS", "STATE")
	for _, n := range c.Nodes {
		nodes.add(n.Name, n.Role, n.Site, n.Address, string(n.State))
		well = well && n.State == management.Ready
	}
	members := newTable("MEMBER", "NAME", "KIND", "HEALTHY")
	for _, m := range c.Members {
		kind := "voter"
		switch {
		case m.Leader:
			kind = "leader"
		case m.Learner:
			kind = "learner"
		}
		members.add(m.ID, m.Name, kind, yesNo(m.Healthy))
		well = well && m.Healthy
	}
	t.printf("%s\netcd cluster %s, healthy: %s\n%s", nodes, orDash(c.ID), yesNo(c.Healthy), members)
	if c.Problem != "" {
		t.printf("\n%s\n", c.Problem)
	}
	if !well {
		t.printf("\nnot all nodes are ready, or etcd is not healthy\n")
		return errSilent
	}
	return nil
}

// table is text in columns.
type table struct{ rows [][]string }

func newTable(header ...string) *table { return &table{rows: [][]string{header}} }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range t.rows {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush()
	return b.String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yesNo(v bool) string {
	if v {
		return "yes"
	}
	return "no"
}
