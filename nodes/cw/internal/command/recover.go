package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

func (t *tool) restartQueueCommand() *cobra.Command {
	var resume, drop bool
	c := &cobra.Command{
		Use: "restart-queue", Short: "Show the rolling restart of nodes whose configuration needs one (exit code 1 when it has stopped)",
		Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case resume && drop:
				return usageError{errors.New("give --resume or --clear, not both")}
			case resume:
				return t.steerRestarts(c.Context(), management.ResumeRestarts)
			case drop:
				return t.steerRestarts(c.Context(), management.ClearRestarts)
			}
			q, err := store(c.Context(), t, func(ctx context.Context, c *management.Client) (*management.Restarts, error) { return c.Restarts(ctx) })
			if err != nil {
				return fmt.Errorf("reading the restart queue: %w", err)
			}
			return t.showRestarts(q)
		},
	}
	c.Flags().BoolVar(&resume, "resume", false, "go on after a node has failed")
	c.Flags().BoolVar(&drop, "clear", false, "let the nodes that wait run on with what they have")
	return c
}

func (t *tool) steerRestarts(ctx context.Context, action string) error {
	q, err := store(ctx, t, func(ctx context.Context, c *management.Client) (*management.Restarts, error) {
		return c.SteerRestarts(ctx, action)
	})
	if err != nil {
		return fmt.Errorf("changing the restart queue: %w", err)
	}
	return t.showRestarts(q)
}

func (t *tool) showRestarts(q *management.Restarts) error {
	if q.Current == "" && len(q.Waiting) == 0 && q.Halted == "" {
		t.printf("no node waits for a restart\n")
		return nil
	}
	if q.Current != "" {
		t.printf("restarting: %s, since %s\n", q.Current, q.Since.Format(time.RFC3339))
	}
	t.printf("waiting: %s\n", orDash(strings.Join(q.Waiting, ", ")))
	if q.Halted != "" {
		t.printf("stopped: %s\n(cw cluster restart-queue --resume goes on, --clear gives it up)\n", q.Halted)
		return errSilent
	}
	return nil
}

func (t *tool) recoverCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "recover NODE",
		Short: "Make one store node (such as store-1.site1) the only member of the site's etcd, when the majority of the members is lost for good",
		Args:  args(cobra.ExactArgs(1)), RunE: func(c *cobra.Command, a []string) error { return t.recover(c.Context(), a[0], yes) },
	}
	c.Flags().BoolVar(&yes, "autoconfirm", false, "do not ask")
	return c
}

// recover asks the one node that is named: which one has the newest data the operator must decide, and cw shows what each has.
func (t *tool) recover(ctx context.Context, node string, yes bool) error {
	access, err := t.open()
	if err != nil {
		return err
	}
	conf, err := access.TLS(config.Store)
	if err != nil {
		return err //nolint:wrapcheck // says what
	}
	port := t.ManagementPort
	if port == 0 {
		port = config.ManagementPort(config.Store)
	}
	client, err := func() (*management.Client, error) {
		addresses, err := rest.Lookup(access.DNS)(ctx, access.StoreHost())
		if err != nil {
			return nil, fmt.Errorf("finding the store nodes: %w", err)
		}
		return findNode(ctx, addresses, node, func(a netip.Addr) *management.Client {
			return management.NewClient(net.JoinHostPort(a.String(), strconv.Itoa(port)), conf)
		})
	}()
	if err != nil {
		return err
	}
	defer client.Close()
	t.printf("%s becomes the only member of the etcd of its site, with what is on its disk. What the lost members had and it has not is gone.\n"+
		"Members that come back join it empty.\n", node)
	if !yes && !t.confirm("Are the other members lost for good?") {
		return errors.New("nothing was changed")
	}
	got, err := client.Recover(ctx)
	if err != nil {
		return fmt.Errorf("recovering etcd: %w", err)
	}
	t.printf("%s goes on from %s; cw cluster state shows the others joining\n", node, got.From)
	return nil
}

// findNode asks the store nodes for their names.
func findNode(ctx context.Context, addresses []netip.Addr, node string, open func(netip.Addr) *management.Client) (*management.Client, error) {
	var problems []error
	for _, a := range addresses {
		c := open(a)
		askCtx, cancel := context.WithTimeout(ctx, 3*time.Second)
		status, err := c.Status(askCtx)
		cancel()
		switch {
		case err == nil && status.Name == node:
			return c, nil
		case err == nil:
			err = fmt.Errorf("%s is %s", a, status.Name)
		}
		problems = append(problems, err)
		c.Close()
	}
	return nil, fmt.Errorf("no store node answers as %s: %w", node, errors.Join(problems...))
}
