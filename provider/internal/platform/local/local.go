// Package local is the platform "this machine": every node is its own process with its own address in 127.0.0.0/8, and
// its own folder for configuration, data and log, kept alive by one supervisor process per deployment, which also
// answers DNS for the zone. All of it lies in one state folder per deployment; Reflect reads that folder and /proc.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/layout"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/supervisor"
)

// Config of the platform.
type Config struct {
	Root      string       // folder that holds one state folder per deployment
	Addresses netip.Prefix // within 127.0.0.0/8: where deployments take their /24 from
	// Supervisor is the command that runs a supervisor: path of an executable, and the words before the state folder's
	// path. The executable is copied into the state folder.
	Supervisor []string
}

// Local implements platform.Platform.
type Local struct {
	cfg Config
}

var (
	_ platform.Platform = (*Local)(nil)
	_ platform.Limits   = (*Local)(nil)
	_ platform.Consoles = (*Local)(nil)
	_ platform.Watchers = (*Local)(nil)
)

// DefaultAddresses are far from those that systems use themselves (127.0.0.1, 127.0.1.1, 127.0.0.53).
func DefaultAddresses() netip.Prefix { return netip.MustParsePrefix("127.64.0.0/10") }

// New checks the configuration; it touches nothing.
func New(cfg Config) (*Local, error) {
	root, err := filepath.Abs(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("local platform: %w", err)
	}
	cfg.Root = root
	if !cfg.Addresses.IsValid() {
		cfg.Addresses = DefaultAddresses()
	}
	if !loopback().Contains(cfg.Addresses.Addr()) || cfg.Addresses.Bits() > 24 || cfg.Addresses.Bits() < 8 {
		return nil, fmt.Errorf("local platform: addresses %s: allowed is a range within 127.0.0.0/8 of /24 or larger", cfg.Addresses)
	}
	if len(cfg.Supervisor) == 0 {
		return nil, errors.New("local platform: no supervisor command")
	}
	return &Local{cfg: cfg}, nil
}

func loopback() netip.Prefix { return netip.MustParsePrefix("127.0.0.0/8") }

// MaxNodesPerTier is what topology fits into a /24.
func (*Local) MaxNodesPerTier() int { return 30 }

// folder finds a deployment's state folder by name or uuid.
func (l *Local) folder(deployment string) (layout.Folder, layout.Deployment, error) {
	entries, err := os.ReadDir(l.cfg.Root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", layout.Deployment{}, fmt.Errorf("looking for deployments: %w", err)
	}
	for _, e := range entries {
		folder := l.named(e.Name())
		d, err := folder.ReadDeployment()
		if errors.Is(err, fs.ErrNotExist) || (err != nil && !e.IsDir()) {
			continue
		}
		if err != nil {
			return "", layout.Deployment{}, err
		}
		if d.Name == deployment || d.ID == deployment {
			return folder, d, nil
		}
	}
	return "", layout.Deployment{}, fmt.Errorf("deployment %s in %s: %w", deployment, l.cfg.Root, platform.ErrNotFound)
}

func (l *Local) named(name string) layout.Folder {
	return layout.Folder(filepath.Join(l.cfg.Root, name))
}

// Console returns the end of a node's log.
func (l *Local) Console(_ context.Context, deployment, node string) (string, error) {
	folder, _, err := l.folder(deployment)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(folder.Log(node))
	if err != nil {
		return "", fmt.Errorf("log of %s: %w", node, err)
	}
	const most = 4096
	if len(text) > most {
		text = text[len(text)-most:]
		if _, rest, ok := strings.Cut(string(text), "\n"); ok {
			return rest, nil
		}
	}
	return string(text), nil
}

// Restarts asks the supervisor.
func (l *Local) Restarts(ctx context.Context, deployment, node string) (times int, reason string, err error) {
	folder, _, err := l.folder(deployment)
	if err != nil {
		return 0, "", err
	}
	status, err := supervisor.NewClient(folder).Status(ctx)
	if err != nil {
		return 0, "", err
	}
	return status.Nodes[node].Restarts, status.Nodes[node].LastExit, nil
}
