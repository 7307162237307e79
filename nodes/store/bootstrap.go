package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/identity"
	"github.com/clearwater-ims/clearwater/nodes/internal/service"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/document"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/etcd"
)

// bootstrap is the first hours of the first store node: an order arrives before the role runs, and is answered when
// the role has founded the cluster.
type bootstrap struct {
	open    openFunc
	founded chan string // the id of the cluster, once; capacity 1
}

func newBootstrap(open openFunc) *bootstrap {
	return &bootstrap{open: open, founded: make(chan string, 1)}
}

// keysOf and directoryOf are where a node keeps its keys and its etcd member.
func keysOf(id *identity.Identity) string {
	cert, _ := id.Files()
	return filepath.Dir(cert)
}

func dataOf(id *identity.Identity) string { return filepath.Dir(keysOf(id)) }

func directoryOf(id *identity.Identity) string { return filepath.Join(dataOf(id), "etcd") }

// bootstrap makes this node the first member of a new cluster. Getting its certificate is what lets the role start,
// which then carries the order out.
func (b *bootstrap) bootstrap(ctx context.Context, req management.BootstrapRequest, id *identity.Identity) (string, error) {
	if len(req.SharedConfig) > 0 {
		if _, err := document.Validate(config.SharedFile, etcd.Lines(req.SharedConfig), "", localOf(id)); err != nil {
			return "", &management.Error{Status: 422, Message: err.Error()}
		}
	}
	member := etcd.Member{Directory: directoryOf(id)}
	authority, err := member.Order(req, keysOf(id), id.Roots())
	if err != nil {
		return "", err
	}
	if err := id.SignWith(authority); err != nil {
		return "", fmt.Errorf("signing this node's certificate: %w", err)
	}
	select {
	case clusterID := <-b.founded:
		return clusterID, nil
	case <-ctx.Done():
		return "", errors.New("the cluster is still being founded: this goes on; ask for the node's status")
	}
}

// localOf is enough of a local_config to check a shared one against.
func localOf(id *identity.Identity) *config.Options {
	s, o := id.Subject(), config.Defaults()
	o.Role, o.DeploymentID, o.PublicHostname = config.Store, "any", s.Name
	o.LocalIP, o.PublicIP = s.Addresses[0], s.Addresses[0]
	o.Zone = strings.TrimPrefix(s.DNSNames[0], s.Name+".")
	return o
}

// start is service.Start.
func (b *bootstrap) start(ctx context.Context, n *service.Node) (service.Running, error) {
	return newStore(ctx, n, b.open, func(clusterID string) {
		n.SetClusterID(clusterID)
		select {
		case b.founded <- clusterID:
		default:
		}
	})
}
