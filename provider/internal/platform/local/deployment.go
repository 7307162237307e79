package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/layout"
)

// ApplyDeployment creates or adopts the state folder, and sees to it that its supervisor runs and is of our build.
func (l *Local) ApplyDeployment(ctx context.Context, want platform.Deployment) (platform.Deployment, error) {
	unlock, err := l.lockRoot()
	if err != nil {
		return platform.Deployment{}, err
	}
	defer unlock()
	folder, have, err := l.folder(want.Name)
	switch {
	case errors.Is(err, platform.ErrNotFound):
		folder = l.named(want.Name)
		have = layout.Deployment{ID: want.ID, Name: want.Name, HomeDomain: want.HomeDomain, CreatedAt: time.Now().UTC(), TTL: 1}
	case err != nil:
		return platform.Deployment{}, err
	case have.HomeDomain != want.HomeDomain:
		return platform.Deployment{}, fmt.Errorf("deployment %s exists in %s with home domain %s, not %s: %w",
			want.Name, folder, have.HomeDomain, want.HomeDomain, platform.ErrConflict)
	}
	have.CACertificate = want.CACertificate
	if have.Supervisor, err = l.installSupervisor(folder); err != nil {
		return platform.Deployment{}, err
	}
	if have.Block == "" {
		return l.settle(ctx, folder, have)
	}
	if err := folder.WriteDeployment(have); err != nil {
		return platform.Deployment{}, err
	}
	if err := l.ensureSupervisor(ctx, folder, have); err != nil {
		if errors.Is(err, errAddressTaken) {
			return platform.Deployment{}, fmt.Errorf("%w: another program listens at %s, which this deployment has; end that program and apply again",
				err, serverOfText(have))
		}
		return platform.Deployment{}, err
	}
	return l.describe(ctx, folder, have), nil
}

func serverOfText(d layout.Deployment) string {
	block, err := netip.ParsePrefix(d.Block)
	if err != nil {
		return d.Block
	}
	return netip.AddrPortFrom(serverOf(block), uint16(d.Ports.DNS)).String() //nolint:gosec // a port
}

// settle takes the first block of addresses on which a supervisor can open its name server: binding is the only check
// that another process cannot race.
func (l *Local) settle(ctx context.Context, folder layout.Folder, d layout.Deployment) (platform.Deployment, error) {
	for attempt := range 32 {
		block, err := l.freeBlock(ctx, d.ID, attempt)
		if err != nil {
			return platform.Deployment{}, err
		}
		d.Block = block.String()
		if d.Ports, err = choosePorts(ctx, serverOf(block)); err != nil {
			continue // taken since it was found free
		}
		if err := folder.WriteDeployment(d); err != nil {
			return platform.Deployment{}, err
		}
		err = l.ensureSupervisor(ctx, folder, d)
		if err == nil {
			return l.describe(ctx, folder, d), nil
		}
		if !errors.Is(err, errAddressTaken) {
			return platform.Deployment{}, err
		}
	}
	return platform.Deployment{}, fmt.Errorf("no free block of addresses in %s", l.cfg.Addresses)
}

// lockRoot keeps two applies from choosing the same block.
func (l *Local) lockRoot() (unlock func(), err error) {
	if err := os.MkdirAll(l.cfg.Root, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	fd, err := unix.Open(l.cfg.Root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", l.cfg.Root, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("locking %s: %w", l.cfg.Root, err)
	}
	return func() { _ = unix.Close(fd) }, nil
}

// DestroyDeployment ends every process and removes every file, whether or not the supervisor still lives.
func (l *Local) DestroyDeployment(ctx context.Context, deployment string) error {
	folder, _, err := l.folder(deployment)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := stopSupervisor(ctx, folder); err != nil {
		return err
	}
	if err := endProcesses(ctx, folder, func(layout.Process) bool { return true }); err != nil {
		return err
	}
	if err := os.RemoveAll(string(folder)); err != nil {
		return fmt.Errorf("removing state: %w", err)
	}
	if err := os.Remove(l.cfg.Root); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("removing state: %w", err)
	}
	return nil
}

// endProcesses ends those that match: gently, then, after a time, for good.
func endProcesses(ctx context.Context, folder layout.Folder, match func(layout.Process) bool) error {
	const grace = 15 * time.Second
	signal, deadline := syscall.SIGTERM, time.Now().Add(grace)
	told := map[int]bool{}
	for {
		processes, err := folder.Processes()
		if err != nil {
			return err
		}
		left := 0
		if time.Now().After(deadline) {
			signal = syscall.SIGKILL
		}
		for _, p := range processes {
			if !match(p) {
				continue
			}
			left++
			if signal == syscall.SIGKILL || (!told[p.PID] && (p.Leader || p.Node == "")) {
				_ = syscall.Kill(p.PID, signal) // it may have ended by itself
				told[p.PID] = true
			}
		}
		leaders := false
		for _, p := range processes {
			leaders = leaders || (match(p) && (p.Leader || p.Node == ""))
		}
		switch {
		case left == 0:
			return nil
		case !leaders:
			signal, deadline = syscall.SIGKILL, time.Now() // what a node left behind is not asked
		case time.Now().After(deadline.Add(grace)):
			return fmt.Errorf("%d processes of %s cannot be ended", left, folder)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("waiting: %w", ctx.Err())
	case <-timer.C:
		return nil
	}
}
