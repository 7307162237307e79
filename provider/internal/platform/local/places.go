package local

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/supervisor"
)

// ApplyNetwork gives the deployment's own /24 to its first network and another free one to each further network; a
// given CIDR is taken if it is free.
func (l *Local) ApplyNetwork(ctx context.Context, deployment string, want platform.Network) (platform.Network, error) {
	unlock, err := l.lockRoot()
	if err != nil {
		return platform.Network{}, err
	}
	defer unlock()
	folder, d, err := l.folder(deployment)
	if err != nil {
		return platform.Network{}, err
	}
	networks, err := folder.Networks()
	if err != nil {
		return platform.Network{}, err
	}
	own, err := netip.ParsePrefix(d.Block)
	if err != nil {
		return platform.Network{}, fmt.Errorf("deployment's block of addresses: %w", err)
	}
	taken := map[netip.Prefix]bool{}
	for _, n := range networks {
		if n.Name == want.Name && (!want.CIDR.IsValid() || want.CIDR == n.CIDR) {
			return n, nil
		}
		taken[n.CIDR] = true
	}
	switch {
	case want.CIDR.IsValid():
		if err := l.checkCIDR(ctx, want.CIDR, own, taken); err != nil {
			return platform.Network{}, err
		}
	case !taken[own]:
		want.CIDR = own
	default:
		if want.CIDR, err = l.freeBlock(ctx, d.ID+want.Name, 0); err != nil {
			return platform.Network{}, err
		}
	}
	return want, folder.WriteNetwork(want)
}

func (l *Local) checkCIDR(ctx context.Context, cidr, own netip.Prefix, taken map[netip.Prefix]bool) error {
	if cidr.Bits() != 24 || cidr != cidr.Masked() || !loopback().Contains(cidr.Addr()) || reserved(cidr) {
		return fmt.Errorf("cidr %s: on this platform allowed is a /24 within 127.0.0.0/8 that the system does not use itself", cidr)
	}
	if taken[cidr] {
		return fmt.Errorf("cidr %s: another network of this deployment has it: %w", cidr, platform.ErrConflict)
	}
	if cidr == own {
		return nil // the deployment's name server listens there, rightly
	}
	recorded, err := l.recordedBlocks()
	if err != nil {
		return err
	}
	if recorded[cidr] || !free(ctx, cidr) {
		return fmt.Errorf("cidr %s: another deployment or program uses it: %w", cidr, platform.ErrConflict)
	}
	return nil
}

// DeleteNetwork gives the addresses back.
func (l *Local) DeleteNetwork(_ context.Context, deployment, name string) error {
	folder, _, err := l.folder(deployment)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return folder.RemoveNetwork(name)
}

// ApplySite records the site.
func (l *Local) ApplySite(_ context.Context, deployment string, want platform.Site) error {
	folder, _, err := l.folder(deployment)
	if err != nil {
		return err
	}
	return folder.WriteSite(want)
}

// DeleteSite forgets the site.
func (l *Local) DeleteSite(_ context.Context, deployment, name string) error {
	folder, _, err := l.folder(deployment)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return folder.RemoveSite(name)
}

// Publish replaces an owner's records, and has the name server load them. If it does not run, it loads them when it starts.
func (l *Local) Publish(ctx context.Context, deployment string, set platform.RecordSet) error {
	folder, _, err := l.folder(deployment)
	if err != nil {
		return err
	}
	if err := folder.WriteRecords(set); err != nil {
		return err
	}
	if _, err = supervisor.NewClient(folder).Sync(ctx); errors.Is(err, supervisor.ErrDown) {
		return nil
	}
	return err
}
