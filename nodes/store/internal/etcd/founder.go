package etcd

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
)

// Files of the site CA in the folder of the node's keys.
const (
	authorityCert = "site-ca.crt"
	authorityKey  = "site-ca.key"
)

// order is a bootstrap that was ordered and may be under way. It is on disk from the order until the cluster is
// founded, so that a crash in between neither loses it nor leaves half a cluster.
type order struct {
	SharedConfig string            `json:"shared_config"`
	Documents    map[string]string `json:"documents,omitempty"` // further ones, of a recovery
	Author       string            `json:"author,omitempty"`
}

func (m Member) orderFile() string { return filepath.Join(m.Directory, "bootstrap.json") }

// Order keeps the site CA in keys (0600) and the order to found a cluster; Founder carries it out. roots are the
// deployment CA, under which the site CA must be.
func (m Member) Order(req management.BootstrapRequest, keys string, roots []byte) (*pki.Authority, error) {
	authority, err := checkAuthority(req, roots)
	if err != nil {
		return nil, err
	}
	if err := KeepAuthority(keys, []byte(req.SiteCA), []byte(req.SiteCAKey)); err != nil {
		return nil, err
	}
	return authority, m.keep(order{SharedConfig: Lines(req.SharedConfig), Author: "bootstrap"})
}

func (m Member) keep(o order) error {
	text, err := json.Marshal(o)
	if err == nil {
		err = os.MkdirAll(m.Directory, 0o700)
	}
	if err == nil {
		err = writeFile(m.orderFile(), text)
	}
	if err != nil {
		return fmt.Errorf("keeping the order to found a cluster: %w", err)
	}
	return nil
}

// KeepAuthority writes the site CA beside the node's keys.
func KeepAuthority(keys string, cert, key []byte) error {
	err := os.MkdirAll(keys, 0o700)
	if err == nil {
		err = errors.Join(writeFile(filepath.Join(keys, authorityKey), key), writeFile(filepath.Join(keys, authorityCert), cert))
	}
	if err != nil {
		return fmt.Errorf("keeping the site CA: %w", err)
	}
	return nil
}

func checkAuthority(req management.BootstrapRequest, roots []byte) (*pki.Authority, error) {
	authority, err := pki.ParseAuthority([]byte(req.SiteCA), []byte(req.SiteCAKey))
	if err != nil {
		return nil, &management.Error{Status: 422, Message: "site_ca and site_ca_key: " + err.Error()}
	}
	pool, err := pki.Pool(roots)
	if err != nil {
		return nil, fmt.Errorf("reading the deployment CA: %w", err)
	}
	if _, err := authority.Certificate.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, &management.Error{Status: 422, Message: "site_ca is not signed by the deployment CA of this node: " + err.Error()}
	}
	return authority, nil
}

// Authority reads the site CA back; an error where this node was not given one.
func Authority(keys string) (*pki.Authority, error) {
	cert, err := os.ReadFile(filepath.Join(keys, authorityCert))
	if err != nil {
		return nil, fmt.Errorf("reading the site CA: %w", err)
	}
	key, err := os.ReadFile(filepath.Join(keys, authorityKey))
	if err != nil {
		return nil, fmt.Errorf("reading the site CA's key: %w", err)
	}
	return pki.ParseAuthority(cert, key)
}

// Lines writes options as a shared_config, sorted by name.
func Lines(options map[string]string) string {
	names := make([]string, 0, len(options))
	for name := range options {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "%s=%s\n", name, options[name])
	}
	return b.String()
}

func (m Member) ordered() (*order, error) {
	text, err := os.ReadFile(m.orderFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var o order
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the order to bootstrap: %w", err)
	}
	return &o, nil
}

// found carries an order out once the member has a leader. Each step can be done again after a crash.
func (m *Membership) found(ctx context.Context, o *order) error {
	documents := maps.Clone(o.Documents)
	if o.SharedConfig != "" {
		if documents == nil {
			documents = map[string]string{}
		}
		documents[config.SharedFile] = o.SharedConfig
	}
	for typ, text := range documents {
		_, err := m.Own.PutDocument(ctx, management.Document{Type: typ, Text: text, Author: o.Author})
		if err != nil && !errors.Is(err, cluster.ErrConflict) { // written before a crash
			return err
		}
	}
	id, _, err := m.Own.Peers(ctx)
	if err != nil {
		return err
	}
	if err := m.Own.Secure(ctx, m.Member.Name); err != nil {
		return err
	}
	if err := m.Member.SetFounded(Founded{ClusterID: id}); err != nil {
		return err
	}
	if err := os.Remove(m.Member.orderFile()); err != nil {
		return fmt.Errorf("ending the bootstrap: %w", err)
	}
	m.Log.Info("founded an etcd cluster", "cluster_id", id)
	m.Founded(id)
	return nil
}
