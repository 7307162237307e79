// Package layout is the state folder of one deployment on this machine: which file stands where, and what is in it.
// The provider writes these files, the supervisor reads them; both meet only here and on the control socket. Every
// file is replaced by renaming, so a reader never sees half of one. It starts no process.
package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// Folder is the absolute path of a deployment's state folder.
type Folder string

// Paths in the folder.
func (f Folder) deployment() string         { return f.join("deployment.json") }
func (f Folder) Lock() string               { return f.join("supervisor", "lock") }
func (f Folder) Socket() string             { return f.join("supervisor", "control.sock") }
func (f Folder) SupervisorLog() string      { return f.join("supervisor", "log") }
func (f Folder) SupervisorDir() string      { return f.join("supervisor") }
func (f Folder) Events() string             { return f.join("events.log") }
func (f Folder) Binaries() string           { return f.join("bin") }
func (f Folder) Secrets() string            { return f.join("secrets") }
func (f Folder) NodeDir(name string) string { return f.join("nodes", name) }
func (f Folder) ConfigDir(n string) string  { return f.join("nodes", n, "config") }
func (f Folder) DataDir(n string) string    { return f.join("nodes", n, "data") }
func (f Folder) LogDir(n string) string     { return f.join("nodes", n, "log") }
func (f Folder) Log(n string) string        { return f.join("nodes", n, "log", "node.log") }
func (f Folder) nodeFile(n string) string   { return f.join("nodes", n, "node.json") }
func (f Folder) recordFile(o string) string { return f.join("records", o+".json") }
func (f Folder) join(parts ...string) string {
	return filepath.Join(append([]string{string(f)}, parts...)...)
}

// Binary is where an executable of this content lies.
func (f Folder) Binary(sha256 string) string { return f.join("bin", sha256) }

// Deployment is deployment.json.
type Deployment struct {
	ID            string         `json:"id"`
	Name          string         `json:"name"`
	HomeDomain    string         `json:"home_domain"`
	CACertificate string         `json:"ca_certificate"`
	CreatedAt     time.Time      `json:"created_at"`
	Block         string         `json:"block"` // the deployment's own /24; the name server is on its .2
	Ports         platform.Ports `json:"ports"`
	Supervisor    string         `json:"supervisor"` // SHA-256 of the binary that should supervise
	TTL           int            `json:"ttl"`        // seconds, of the zone's SOA and negative answers
}

// Node is node.json: the machine as it was asked for.
type Node struct {
	Name        string `json:"name"`
	Role        string `json:"role"`
	Site        string `json:"site"`
	Index       int    `json:"index"`
	Address     string `json:"address"`
	Incarnation string `json:"incarnation"`
	Binary      string `json:"binary"` // SHA-256
	Source      string `json:"source"` // path that it was copied from, for people
	Config      string `json:"config"` // SHA-256 over the configuration files: a change restarts the process
	Deleting    bool   `json:"deleting,omitempty"`
}

// ReadDeployment reads deployment.json; fs.ErrNotExist when there is none.
func (f Folder) ReadDeployment() (Deployment, error) {
	var d Deployment
	return d, read(f.deployment(), &d)
}

// WriteDeployment replaces it.
func (f Folder) WriteDeployment(d Deployment) error { return write(f.deployment(), d) }

// ReadNode reads a node's file; fs.ErrNotExist when there is no such node.
func (f Folder) ReadNode(name string) (Node, error) {
	var n Node
	return n, read(f.nodeFile(name), &n)
}

// WriteNode replaces it.
func (f Folder) WriteNode(n Node) error { return write(f.nodeFile(n.Name), n) }

// Nodes lists every node that has its file, by name.
func (f Folder) Nodes() ([]Node, error) {
	names, err := list(f.join("nodes"), "")
	if err != nil {
		return nil, err
	}
	var out []Node
	for _, name := range names {
		n, err := f.ReadNode(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, nil
}

// Records lists what every owner contributes to the zone.
func (f Folder) Records() ([]platform.RecordSet, error) {
	return all[platform.RecordSet](f.join("records"))
}

// WriteRecords replaces an owner's contribution; an empty one removes it.
func (f Folder) WriteRecords(s platform.RecordSet) error {
	if len(s.Records) == 0 {
		return remove(f.recordFile(s.Owner))
	}
	return write(f.recordFile(s.Owner), s)
}

// Networks lists networks.
func (f Folder) Networks() ([]platform.Network, error) {
	return all[platform.Network](f.join("networks"))
}

// WriteNetwork replaces one.
func (f Folder) WriteNetwork(n platform.Network) error {
	return write(f.join("networks", n.Name+".json"), n)
}

// RemoveNetwork removes one; a missing one is no error.
func (f Folder) RemoveNetwork(name string) error { return remove(f.join("networks", name+".json")) }

// Sites lists sites.
func (f Folder) Sites() ([]platform.Site, error) { return all[platform.Site](f.join("sites")) }

// WriteSite replaces one.
func (f Folder) WriteSite(s platform.Site) error { return write(f.join("sites", s.Name+".json"), s) }

// RemoveSite removes one; a missing one is no error.
func (f Folder) RemoveSite(name string) error { return remove(f.join("sites", name+".json")) }

func all[T any](dir string) ([]T, error) {
	names, err := list(dir, ".json")
	if err != nil {
		return nil, err
	}
	out := make([]T, 0, len(names))
	for _, name := range names {
		var v T
		err := read(filepath.Join(dir, name), &v)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since it was listed
		}
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func list(dir, suffix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing state: %w", err)
	}
	var out []string
	for _, e := range entries {
		if suffix == "" || filepath.Ext(e.Name()) == suffix {
			out = append(out, e.Name())
		}
	}
	sort.Strings(out)
	return out, nil
}

func read(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading state: %w", err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading state %s: %w", path, err)
	}
	return nil
}

func write(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("writing state %s: %w", path, err)
	}
	return WriteFile(path, append(text, '\n'), 0o600)
}

// WriteFile replaces a file as a whole, making its folder where needed.
func WriteFile(path string, text []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("writing state: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("writing state: %w", err)
	}
	_, err = temporary.Write(text)
	err = errors.Join(err, temporary.Chmod(mode), temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temporary.Name()) // it is only a leftover
		return fmt.Errorf("writing state %s: %w", path, err)
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing state: %w", err)
	}
	return nil
}
