package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

type backupOptions struct {
	file        string
	only        []string
	autoconfirm bool
}

func (t *tool) backupCommand() *cobra.Command {
	var o backupOptions
	create := &cobra.Command{
		Use:   "create [--to FILE]",
		Short: "Copy subscribers, documents, accounts, numbers and the configuration of the site to a store node, which keeps four, and with --to to a file as well",
		Args:  args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error { return t.backupCreate(c.Context(), o) },
	}
	create.Flags().StringVar(&o.file, "to", "", "file for a copy; it holds secrets")
	list := &cobra.Command{Use: "list", Short: "List the backups that the store nodes keep", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		return t.backupList(c.Context())
	}}
	restore := &cobra.Command{
		Use: "restore ID | --from FILE", Short: "Make the databases what they were; what has been added since is removed",
		Args: args(func(_ *cobra.Command, given []string) error {
			if (len(given) == 1) == (o.file != "") || len(given) > 1 {
				return errors.New("give the id of a backup or --from FILE")
			}
			return nil
		}),
		RunE: func(c *cobra.Command, a []string) error { return t.backupRestore(c.Context(), strings.Join(a, ""), o) },
	}
	restore.Flags().StringVar(&o.file, "from", "", "file that cw backup create --to made")
	restore.Flags().StringSliceVar(&o.only, "only", nil, "databases (default all): homestead_provisioning, homer, ellis, memento, configuration, others")
	restore.Flags().BoolVar(&o.autoconfirm, "autoconfirm", false, "do not ask")
	return group("backup", "Backups of what a site cannot make again", create, list, restore)
}

// storeNode is one store node and a client of it.
type storeNode struct {
	address netip.Addr
	client  *management.Client
}

// stores connects to every store node of the site.
func (t *tool) stores(ctx context.Context) ([]storeNode, error) {
	access, err := t.open()
	if err != nil {
		return nil, err
	}
	conf, err := access.TLS(config.Store)
	if err != nil {
		return nil, err //nolint:wrapcheck // says what
	}
	addresses, err := rest.Lookup(access.DNS)(ctx, access.StoreHost())
	if err != nil {
		return nil, fmt.Errorf("finding the store nodes: %w", err)
	}
	port := t.ManagementPort
	if port == 0 {
		port = config.ManagementPort(config.Store)
	}
	var out []storeNode
	for _, a := range addresses {
		out = append(out, storeNode{a, management.NewClient(net.JoinHostPort(a.String(), strconv.Itoa(port)), conf)})
	}
	return out, nil
}

func (t *tool) backupCreate(ctx context.Context, o backupOptions) error {
	nodes, err := t.stores(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for _, n := range nodes {
		defer n.client.Close()
		b, err := n.client.CreateBackup(ctx)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		t.printf("backup %s on %s: %d rows and documents, %d bytes\n", b.ID, n.address, b.Rows, b.Size)
		if o.file == "" {
			return nil
		}
		return t.saveBackup(ctx, n.client, b.ID, o.file)
	}
	return fmt.Errorf("taking a backup: %w", errors.Join(problems...))
}

func (t *tool) saveBackup(ctx context.Context, c *management.Client, id, path string) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing the copy: %w", err)
	}
	if err = errors.Join(c.ReadBackup(ctx, id, out), out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("writing the copy: %w", err)
	}
	t.printf("copied to %s\n", path)
	return nil
}

func (t *tool) backupList(ctx context.Context) error {
	nodes, err := t.stores(ctx)
	if err != nil {
		return err
	}
	out, answered := newTable("BACKUP", "NODE", "BYTES"), 0
	var problems []error
	for _, n := range nodes {
		askCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
		list, err := n.client.Backups(askCtx)
		cancel()
		n.client.Close()
		if err != nil {
			problems = append(problems, err)
			continue
		}
		answered++
		for _, b := range list {
			out.add(b.ID, n.address.String(), strconv.FormatInt(b.Size, 10))
		}
	}
	if answered == 0 {
		return fmt.Errorf("listing backups: %w", errors.Join(problems...))
	}
	t.printf("%s", out)
	for _, p := range problems {
		t.warnf("warning: %v\n", p)
	}
	return nil
}

func (t *tool) backupRestore(ctx context.Context, id string, o backupOptions) error {
	what := id
	if id == "" {
		what = o.file
	}
	if !o.autoconfirm && !t.confirm(fmt.Sprintf("Restore %s of site %s from %s? What has been added since is removed.", orAll(o.only), t.siteName(), what)) {
		return errors.New("nothing was changed")
	}
	nodes, err := t.stores(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for _, n := range nodes {
		defer n.client.Close()
		done, err := t.restoreAt(ctx, n.client, id, o)
		if err == nil {
			t.printf("restored: %d rows and %d documents put back, %d rows removed\n", done.Rows, done.Documents, done.Removed)
			return nil
		}
		problems = append(problems, err)
		if status := management.StatusOf(err); status != 404 && status != 0 { // it answered, and no other would do it better
			break
		}
	}
	return fmt.Errorf("restoring %s: %w", what, errors.Join(problems...))
}

func (t *tool) restoreAt(ctx context.Context, c *management.Client, id string, o backupOptions) (*management.Restored, error) {
	var from io.Reader
	if id == "" {
		in, err := os.Open(o.file)
		if err != nil {
			return nil, fmt.Errorf("reading the backup: %w", err)
		}
		defer func() { _ = in.Close() }()
		from = in
	}
	return c.Restore(ctx, id, from, o.only) //nolint:wrapcheck // the caller says what
}

func (t *tool) siteName() string {
	if a, err := t.open(); err == nil {
		return a.Site
	}
	return "?"
}

func orAll(only []string) string {
	if len(only) == 0 {
		return "all databases"
	}
	return strings.Join(only, ", ")
}
