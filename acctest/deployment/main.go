package deployment

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/operator"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// Main brings up one deployment for all tests of a package, runs them and destroys it. It is what TestMain calls; use
// is called before the tests run.
func Main(m *testing.M, env string, vars map[string]any, use func(*Deployment)) int {
	all := map[string]any{"dns_ttl": 1} // each tier that leaves waits so long
	maps.Copy(all, vars)
	d, err := New(env, all)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx := context.Background()
	code := 1
	if err := d.applyWithin(ctx, 3*time.Minute); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		use(d)
		code = m.Run()
		if err := d.settled(ctx); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if code != 0 {
		d.KeepLogs()
	}
	if err := d.Destroy(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func (d *Deployment) applyWithin(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return d.Apply(ctx, nil)
}

// settled waits until no edge and no router has a transaction without a final response. Whatever the tests have done to
// them, that must be so 32 s after the last message, plus what a caller may let ring that has gone away (RFC 3261 17).
func (d *Deployment) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	for {
		left := ""
		for node := range d.Nodes {
			if !strings.HasPrefix(node, "edge-") && !strings.HasPrefix(node, "router-") {
				continue
			}
			held, err := d.Held(ctx, node)
			if err != nil {
				return fmt.Errorf("asking %s what it holds: %w", node, err)
			}
			if n := held["transactions"]; n != 0 {
				left += fmt.Sprintf(" %s %d", node, n)
			}
		}
		if left == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("transactions that are left when all tests are over:%s", left)
		case <-time.After(time.Second):
		}
	}
}

// Held is what a node holds by its management status: transactions, dialogs, registrations.
func (d *Deployment) Held(ctx context.Context, node string) (map[string]int64, error) {
	role := config.Role(strings.SplitN(node, "-", 2)[0])
	access, err := d.access(ctx)
	if err != nil {
		return nil, err
	}
	conf, err := access.TLS(role)
	if err != nil {
		return nil, err
	}
	client := management.NewClient(fmt.Sprintf("%s:%d", d.Address(node), config.ManagementPort(role)), conf)
	defer client.Close()
	status, err := client.Status(ctx)
	if err != nil {
		return nil, err
	}
	return status.Held, nil
}

// access is the operator's, made once as `make up` makes it.
func (d *Deployment) access(ctx context.Context) (*operator.Access, error) {
	folder := filepath.Join(d.Folder(), "operator")
	if access, err := operator.Load(folder); err == nil {
		return access, nil
	}
	out, err := exec.CommandContext(ctx, filepath.Join(d.root, "bin", "cw"), "access", "create", "--ca", filepath.Join(d.Folder(), "secrets", "ca"),
		"--zone", d.Domain, "--dns", d.NameServer, "--out", folder).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("making access for the operator: %w\n%s", err, out)
	}
	return operator.Load(folder)
}
