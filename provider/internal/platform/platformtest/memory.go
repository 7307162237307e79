package platformtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// Memory is a platform whose world is a value. Nodes run as soon as they are applied.
type Memory struct {
	mu      sync.Mutex
	worlds  map[string]*platform.World // by uuid
	secrets map[string]string
	blocks  int
	// Journal is every verb that changed something, in order, for tests of order.
	Journal []string
}

var _ platform.Platform = (*Memory)(nil)

// NewMemory is empty.
func NewMemory() *Memory {
	return &Memory{worlds: map[string]*platform.World{}, secrets: map[string]string{}}
}

func (m *Memory) find(deployment string) (*platform.World, error) {
	for _, w := range m.worlds {
		if w.Deployment.ID == deployment || w.Deployment.Name == deployment {
			return w, nil
		}
	}
	return nil, fmt.Errorf("deployment %s: %w", deployment, platform.ErrNotFound)
}

func (m *Memory) note(format string, args ...any) {
	m.Journal = append(m.Journal, fmt.Sprintf(format, args...))
}

// Note lets a test put its own events between those of the platform.
func (m *Memory) Note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note(format, args...)
}

// Reflect implements platform.Reflector.
func (m *Memory) Reflect(_ context.Context, deployment string) (*platform.World, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w, err := m.find(deployment)
	if err != nil {
		return nil, err
	}
	return &platform.World{Deployment: w.Deployment, Networks: slices.Clone(w.Networks), Sites: slices.Clone(w.Sites),
		Nodes: slices.Clone(w.Nodes), Records: slices.Clone(w.Records)}, nil
}

// ApplyDeployment implements platform.Deployments.
func (m *Memory) ApplyDeployment(_ context.Context, want platform.Deployment) (platform.Deployment, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w, err := m.find(want.Name)
	if err != nil {
		m.blocks++
		w = &platform.World{Deployment: want}
		w.Deployment.DNSServer = fmt.Sprintf("127.22.%d.2:53", m.blocks)
		w.Deployment.Ports = platform.Ports{DNS: 53, PortalHTTP: 80, PortalHTTPS: 443}
		m.worlds[want.ID] = w
	}
	if w.Deployment.HomeDomain != want.HomeDomain {
		return platform.Deployment{}, platform.ErrConflict
	}
	w.Deployment.CACertificate, w.Deployment.Running = want.CACertificate, true
	return w.Deployment, nil
}

// DestroyDeployment implements platform.Deployments.
func (m *Memory) DestroyDeployment(_ context.Context, deployment string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w, err := m.find(deployment); err == nil {
		delete(m.worlds, w.Deployment.ID)
		maps.DeleteFunc(m.secrets, func(k, _ string) bool { return strings.HasPrefix(k, w.Deployment.ID+"/") })
	}
	return nil
}

// ApplyNetwork implements platform.Places.
func (m *Memory) ApplyNetwork(_ context.Context, deployment string, want platform.Network) (platform.Network, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w, err := m.find(deployment)
	if err != nil {
		return platform.Network{}, err
	}
	if have, ok := w.Network(want.Name); ok {
		return have, nil
	}
	m.blocks++
	want.CIDR = netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 22, byte(m.blocks), 0}), 24)
	w.Networks = append(w.Networks, want)
	return want, nil
}

// DeleteNetwork implements platform.Places.
func (m *Memory) DeleteNetwork(_ context.Context, deployment, name string) error {
	return m.change(deployment, func(w *platform.World) {
		w.Networks = slices.DeleteFunc(w.Networks, func(n platform.Network) bool { return n.Name == name })
	})
}

// ApplySite implements platform.Places.
func (m *Memory) ApplySite(_ context.Context, deployment string, want platform.Site) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	w, err := m.find(deployment)
	if err != nil {
		return err
	}
	w.Sites = append(slices.DeleteFunc(w.Sites, func(s platform.Site) bool { return s.Name == want.Name }), want)
	return nil
}

// DeleteSite implements platform.Places.
func (m *Memory) DeleteSite(_ context.Context, deployment, name string) error {
	return m.change(deployment, func(w *platform.World) {
		w.Sites = slices.DeleteFunc(w.Sites, func(s platform.Site) bool { return s.Name == name })
	})
}

// change applies to a deployment that may be gone.
func (m *Memory) change(deployment string, do func(*platform.World)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w, err := m.find(deployment); err == nil {
		do(w)
	}
	return nil
}

// ApplyNode implements platform.Machines. An image without a path is taken at its word.
func (m *Memory) ApplyNode(_ context.Context, deployment string, want platform.Node) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	w, err := m.find(deployment)
	if err != nil {
		return err
	}
	if want.Image.Path != "" {
		text, err := os.ReadFile(want.Image.Path)
		if err != nil {
			return err //nolint:wrapcheck // names the file
		}
		if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != want.Image.SHA256 {
			return fmt.Errorf("image %s has another digest", want.Image.Path)
		}
	}
	want.Running = true
	m.note("start %s %s", want.Name, want.Image.SHA256)
	w.Nodes = append(slices.DeleteFunc(w.Nodes, func(n platform.Node) bool { return n.Name == want.Name }), want)
	slices.SortFunc(w.Nodes, func(a, b platform.Node) int { return a.Index - b.Index })
	return nil
}

// DeleteNode implements platform.Machines.
func (m *Memory) DeleteNode(_ context.Context, deployment, name string) error {
	return m.change(deployment, func(w *platform.World) {
		m.note("end %s", name)
		w.Nodes = slices.DeleteFunc(w.Nodes, func(n platform.Node) bool { return n.Name == name })
	})
}

// Publish implements platform.Zones.
func (m *Memory) Publish(_ context.Context, deployment string, set platform.RecordSet) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	w, err := m.find(deployment)
	if err != nil {
		return err
	}
	if strings.HasSuffix(set.Owner, ".cluster") {
		addresses := map[string]bool{}
		for _, r := range set.Records {
			if r.Type == "A" {
				addresses[r.Value] = true
			}
		}
		m.note("publish %d", len(addresses))
	}
	w.Records = slices.DeleteFunc(w.Records, func(s platform.RecordSet) bool { return s.Owner == set.Owner })
	if len(set.Records) > 0 {
		w.Records = append(w.Records, set)
	}
	return nil
}

var secretName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// GetSecret implements platform.Secrets.
func (m *Memory) GetSecret(_ context.Context, deployment, name string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if value, ok := m.secrets[deployment+"/"+name]; ok {
		return value, nil
	}
	return "", fmt.Errorf("secret %s: %w", name, platform.ErrNotFound)
}

// PutSecret implements platform.Secrets.
func (m *Memory) PutSecret(_ context.Context, deployment, name, value string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !secretName.MatchString(name) {
		return fmt.Errorf("secret name %q is refused", name)
	}
	m.secrets[deployment+"/"+name] = value
	return nil
}

// DeleteSecret implements platform.Secrets.
func (m *Memory) DeleteSecret(_ context.Context, deployment, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.secrets, deployment+"/"+name)
	return nil
}

// SecretReference implements platform.Secrets.
func (m *Memory) SecretReference(deployment, name string) (string, error) {
	return "memory:" + deployment + "/" + name, nil
}
