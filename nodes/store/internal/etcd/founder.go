package etcd

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

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

const poll = 250 * time.Millisecond // while waiting for a member to come up

// ErrNotMember says why a node that has joined runs no member: nobody bootstrapped it.
var ErrNotMember = errors.New("this node belongs to no etcd cluster: it was not bootstrapped, and joining an existing one needs the distributed engine")

// order is a bootstrap that was ordered and may be under way. It is on disk from the order until the cluster is
// founded, so that a crash in between neither loses it nor leaves half a cluster.
type order struct {
	SharedConfig string `json:"shared_config"`
}

func (m Member) orderFile() string { return filepath.Join(m.Directory, "bootstrap.json") }

// Order keeps the site CA in keys (0600) and the order to found a cluster; Founder carries it out. roots are the
// deployment CA, under which the site CA must be.
func (m Member) Order(req management.BootstrapRequest, keys string, roots []byte) (*pki.Authority, error) {
	authority, err := checkAuthority(req, roots)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(order{SharedConfig: Lines(req.SharedConfig)})
	if err != nil {
		return nil, fmt.Errorf("keeping the order to bootstrap: %w", err)
	}
	if err := errors.Join(os.MkdirAll(m.Directory, 0o700), os.MkdirAll(keys, 0o700)); err != nil {
		return nil, fmt.Errorf("keeping the order to bootstrap: %w", err)
	}
	err = errors.Join(writeFile(filepath.Join(keys, authorityKey), []byte(req.SiteCAKey)),
		writeFile(filepath.Join(keys, authorityCert), []byte(req.SiteCA)), writeFile(m.orderFile(), text))
	if err != nil {
		return nil, fmt.Errorf("keeping the order to bootstrap: %w", err)
	}
	return authority, nil
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

// Founder runs the member of a node that is in a cluster, and founds the cluster of one that was ordered to.
type Founder struct {
	Member     Member
	Supervisor *Supervisor // its Member is set by Run
	Cluster    *cluster.Client
	Founded    func(clusterID string) // called once, when the id of the cluster is known
	Log        *slog.Logger

	state atomic.Pointer[error] // why the member cannot be used now; a nil error when it can
}

var errStarting = errors.New("the etcd member is starting")

// Usable returns nil while the member has a leader and answers.
func (f *Founder) Usable() error {
	if err := f.state.Load(); err != nil {
		return *err
	}
	return errStarting
}

// Run runs the member until ctx ends. A node that belongs to no cluster and has no order runs none.
func (f *Founder) Run(ctx context.Context) error {
	founded, ok, err := f.Member.Founded()
	if err != nil {
		return err
	}
	var isNew atomic.Bool
	isNew.Store(!ok)
	ordered, err := f.ordered()
	switch {
	case ok:
		f.Founded(founded.ClusterID)
	case err != nil:
		return err
	case ordered == nil:
		f.Log.Error("no etcd member is started", "error", ErrNotMember)
		f.set(ErrNotMember)
		<-ctx.Done()
		return nil
	}
	f.Supervisor.Member = func() Member {
		m := f.Member
		m.New = isNew.Load()
		return m
	}
	watchCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	go f.watch(watchCtx, func() error {
		if !isNew.Load() {
			return nil
		}
		if err := f.found(watchCtx, ordered); err != nil {
			return err
		}
		isNew.Store(false)
		return nil
	})
	return f.Supervisor.Run(ctx)
}

func (f *Founder) ordered() (*order, error) {
	text, err := os.ReadFile(f.Member.orderFile())
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

// watch keeps asking the member, and calls settle when it answers.
func (f *Founder) watch(ctx context.Context, settle func() error) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		err := f.Cluster.Leader(ctx)
		if err == nil {
			err = settle()
		}
		f.set(err)
		if err == nil {
			tick.Reset(4 * poll)
		} else {
			tick.Reset(poll)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (f *Founder) set(err error) { f.state.Store(&err) }

// found finishes a bootstrap once the member has a leader. Each step can be done again after a crash.
func (f *Founder) found(ctx context.Context, o *order) error {
	if o.SharedConfig != "" {
		_, err := f.Cluster.PutDocument(ctx, management.Document{Type: config.SharedFile, Text: o.SharedConfig, Author: "bootstrap"})
		if err != nil && !errors.Is(err, cluster.ErrConflict) { // written before a crash
			return err
		}
	}
	id, _, err := f.Cluster.Members(ctx)
	if err != nil {
		return err
	}
	if err := f.Member.SetFounded(Founded{ClusterID: id}); err != nil {
		return err
	}
	if err := os.Remove(f.Member.orderFile()); err != nil {
		return fmt.Errorf("ending the bootstrap: %w", err)
	}
	f.Log.Info("founded an etcd cluster", "cluster_id", id)
	f.Founded(id)
	return nil
}
