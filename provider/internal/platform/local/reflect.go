package local

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strconv"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/layout"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/supervisor"
)

// Reflect reads the state folder and looks at the processes.
func (l *Local) Reflect(ctx context.Context, deployment string) (*platform.World, error) {
	folder, d, err := l.folder(deployment)
	if err != nil {
		return nil, err
	}
	w := &platform.World{Deployment: l.describe(ctx, folder, d)}
	if w.Networks, err = folder.Networks(); err != nil {
		return nil, err
	}
	if w.Sites, err = folder.Sites(); err != nil {
		return nil, err
	}
	if w.Records, err = folder.Records(); err != nil {
		return nil, err
	}
	if w.Nodes, err = nodes(folder); err != nil {
		return nil, err
	}
	return w, nil
}

func nodes(folder layout.Folder) ([]platform.Node, error) {
	listed, err := folder.Nodes()
	if err != nil {
		return nil, err
	}
	processes, err := folder.Processes()
	if err != nil {
		return nil, err
	}
	running := map[string]bool{}
	for _, p := range processes {
		running[p.Node] = true
	}
	var out []platform.Node
	for _, n := range listed {
		files, err := configFiles(folder.ConfigDir(n.Name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // half of the folder is gone: it is not a node any more
		}
		if err != nil {
			return nil, err
		}
		address, err := netip.ParseAddr(n.Address)
		if err != nil {
			return nil, err //nolint:wrapcheck // says it all
		}
		out = append(out, platform.Node{Name: n.Name, Role: config.Role(n.Role), Site: n.Site, Index: n.Index, Address: address,
			Incarnation: n.Incarnation, Image: platform.Image{Path: n.Source, SHA256: n.Binary}, Config: files, Running: running[n.Name]})
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if a.Site != b.Site {
			return a.Site < b.Site
		}
		if a.Role != b.Role {
			return a.Role < b.Role
		}
		return a.Index < b.Index
	})
	return out, nil
}

// configFiles reads back what ApplyNode wrote, without what the platform added and what the node keeps there itself.
func configFiles(dir string) (map[string]string, error) {
	if _, err := os.Stat(filepath.Join(dir, config.LocalFile)); err != nil {
		return nil, err //nolint:wrapcheck // the caller asks what it is
	}
	out := map[string]string{}
	for _, name := range []string{config.LocalFile, config.UserFile, "ca.pem"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err //nolint:wrapcheck // names the file
		}
		out[name] = string(text)
	}
	out[config.LocalFile] = withoutOwn(out[config.LocalFile])
	return out, nil
}

func (l *Local) describe(ctx context.Context, folder layout.Folder, d layout.Deployment) platform.Deployment {
	out := platform.Deployment{ID: d.ID, Name: d.Name, HomeDomain: d.HomeDomain, CACertificate: d.CACertificate,
		CreatedAt: d.CreatedAt, Ports: d.Ports, EventLog: folder.Events()}
	if block, err := netip.ParsePrefix(d.Block); err == nil {
		out.DNSServer = net.JoinHostPort(serverOf(block).String(), strconv.Itoa(d.Ports.DNS))
	}
	_, err := answers(ctx, supervisor.NewClient(folder))
	out.Running = err == nil
	return out
}
