package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/layout"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/supervisor"
)

// ownLine marks what this platform adds to a local_config: where data lies on this machine.
const ownLine = "# added by the local platform"

// ApplyNode writes the node's folder and has the supervisor start it, or restart it where binary or configuration differ.
func (l *Local) ApplyNode(ctx context.Context, deployment string, want platform.Node) error {
	folder, _, err := l.folder(deployment)
	if err != nil {
		return err
	}
	if err := l.writeNode(folder, want); err != nil {
		return err
	}
	if _, err = supervisor.NewClient(folder).Sync(ctx); err != nil {
		return err
	}
	return l.dropUnusedBinaries(folder)
}

// writeNode holds the root's lock, so that nobody takes the binary for unused before the node says that it uses it.
func (l *Local) writeNode(folder layout.Folder, want platform.Node) error {
	unlock, err := l.lockRoot()
	if err != nil {
		return err
	}
	defer unlock()
	if err := installBinary(folder, want.Image.Path, want.Image.SHA256); err != nil {
		return err
	}
	for _, dir := range []string{folder.ConfigDir(want.Name), folder.DataDir(want.Name), folder.LogDir(want.Name)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("node %s: %w", want.Name, err)
		}
	}
	files := maps.Clone(want.Config)
	files[config.LocalFile] = withOwn(files[config.LocalFile], folder.DataDir(want.Name))
	for name, text := range files {
		if err := layout.WriteFile(filepath.Join(folder.ConfigDir(want.Name), name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return folder.WriteNode(layout.Node{Name: want.Name, Role: string(want.Role), Site: want.Site, Index: want.Index,
		Address: want.Address.String(), Incarnation: want.Incarnation, Binary: want.Image.SHA256, Source: want.Image.Path, Config: digestOf(files)})
}

// DeleteNode stops the process, also one that no supervisor watches, and removes the folder.
func (l *Local) DeleteNode(ctx context.Context, deployment, name string) error {
	folder, _, err := l.folder(deployment)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	node, err := folder.ReadNode(name)
	if err == nil {
		node.Deleting = true
		err = folder.WriteNode(node)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := supervisor.NewClient(folder).Sync(ctx); err != nil && !errors.Is(err, supervisor.ErrDown) {
		return err
	}
	if err := endProcesses(ctx, folder, func(p layout.Process) bool { return p.Node == name }); err != nil {
		return err
	}
	if err := os.RemoveAll(folder.NodeDir(name)); err != nil {
		return fmt.Errorf("removing node %s: %w", name, err)
	}
	return l.dropUnusedBinaries(folder)
}

// dropUnusedBinaries removes what neither a node nor the supervisor runs.
func (l *Local) dropUnusedBinaries(folder layout.Folder) error {
	unlock, err := l.lockRoot() // nobody installs one meanwhile
	if err != nil {
		return err
	}
	defer unlock()
	d, err := folder.ReadDeployment()
	if err != nil {
		return err
	}
	used := map[string]bool{d.Supervisor: true}
	listed, err := folder.Nodes()
	if err != nil {
		return err
	}
	for _, n := range listed {
		used[n.Binary] = true
	}
	entries, err := os.ReadDir(folder.Binaries())
	if err != nil {
		return fmt.Errorf("binaries: %w", err)
	}
	for _, e := range entries {
		if used[e.Name()] || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if err := os.Remove(filepath.Join(folder.Binaries(), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("binaries: %w", err)
		}
	}
	return nil
}

func withOwn(text, data string) string {
	return fmt.Sprintf("%s%s\ndata_directory=%q\n", text, ownLine, data)
}

func withoutOwn(text string) string {
	before, _, _ := strings.Cut(text, ownLine)
	return before
}

func digestOf(files map[string]string) string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		_, _ = fmt.Fprintf(sum, "%s\x00%d\x00%s", name, len(files[name]), files[name]) // a hash never fails
	}
	return hex.EncodeToString(sum.Sum(nil))
}
