package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/service"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/etcd"
)

// authority reads the site CA when it is first needed, and keeps it.
func authority(keys string) func() (*pki.Authority, error) {
	var mu sync.Mutex
	var kept *pki.Authority
	return func() (*pki.Authority, error) {
		mu.Lock()
		defer mu.Unlock()
		if kept != nil {
			return kept, nil
		}
		a, err := etcd.Authority(keys)
		if err == nil {
			kept = a
		}
		return a, err
	}
}

// fetchAuthority gets the site CA from another store node, unless this one has it.
func fetchAuthority(ctx context.Context, n *service.Node, keys string) error {
	if _, err := etcd.Authority(keys); err == nil {
		return nil
	}
	o := n.Options()
	addrs, err := n.Resolver().Addrs(ctx, "store."+o.Site+"."+o.Zone, uint16(config.ManagementPort(config.Store))) //nolint:gosec // a port
	if err != nil {
		return fmt.Errorf("getting the site CA: %w", err)
	}
	problems := []error{errors.New("getting the site CA: no other store node gives it")}
	for _, a := range addrs {
		if self, err := netip.ParseAddr(o.LocalIP); err == nil && a.Addr() == self {
			continue
		}
		c := management.NewClient(a.String(), n.Identity.Client(config.Store))
		got, err := c.Authority(ctx)
		c.Close()
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if _, err := pki.ParseAuthority([]byte(got.Certificate), []byte(got.Key)); err != nil {
			return fmt.Errorf("getting the site CA: %w", err)
		}
		return etcd.KeepAuthority(keys, []byte(got.Certificate), []byte(got.Key))
	}
	return errors.Join(problems...)
}
