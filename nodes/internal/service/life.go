package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

var (
	errUnjoined = errors.New("waiting for a certificate of the deployment")
	errNoShared = errors.New("waiting for the shared configuration")
	errStarting = errors.New("starting")
	errSignal   = errors.New("second signal: ended at once")
	errAgain    = errors.New("to be started again")
	errEnded    = errors.New("the role ended by itself")
)

// run takes the node through its life: join, configuration, role, signals, drain, end.
func (b *boot) run(n *Node) error {
	base, stopAll := context.WithCancel(context.Background()) // identity, cluster
	serving, stopServing := context.WithCancel(base)          // the role
	var background sync.WaitGroup
	defer background.Wait()
	defer stopAll()
	defer stopServing()

	background.Go(func() { _ = n.Identity.Run(base) }) // returns only nil
	ended := make(chan error, 1)
	go func() { ended <- b.bringUp(serving, base, n, &background) }()

	for {
		select {
		case err := <-ended:
			if err == nil {
				err = errEnded
			}
			return err
		case s := <-b.signals:
			if s == syscall.SIGHUP {
				if err := n.live.reload(); err != nil {
					n.Log.Error("reloading the configuration, the old one stays in force", "error", err)
				}
				continue
			}
			return b.stop(n, s.String(), stopServing, ended)
		case <-b.again:
			if err := b.stop(n, "restart by order", stopServing, ended); err != nil {
				return err
			}
			return errAgain
		}
	}
}

// bringUp brings the role up and runs it.
func (b *boot) bringUp(serving, base context.Context, n *Node, background *sync.WaitGroup) error {
	if err := n.Identity.Join(serving); err != nil {
		return err
	}
	b.phase.Store(&errNoShared)
	if err := b.follow(base, n, background); err != nil {
		return err
	}
	if !b.early {
		if err := b.awaitShared(serving, n); err != nil {
			return err
		}
	}
	b.phase.Store(&errStarting)
	n.live.begun.Store(n.Options())
	running, err := b.start(serving, n)
	if err != nil {
		return fmt.Errorf("starting %s: %w", b.role, err)
	}
	var none error
	b.phase.Store(&none)
	n.drains.started(running)
	n.Log.Info("serving")
	return running.Run(serving)
}

// follow connects to the cluster: registry entry and documents.
func (b *boot) follow(ctx context.Context, n *Node, background *sync.WaitGroup) error {
	c, err := b.connect(n)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	say := func() {
		o := n.Options()
		state, _ := n.state()
		c.Announce(management.Registration{Name: n.Name(), Role: string(o.Role), Site: o.Site, Address: o.LocalIP, State: state, Applied: n.live.revisions(),
			Manage: net.JoinHostPort(o.ManagementLocalIP, strconv.Itoa(config.ManagementPort(b.role))), Restart: n.live.restart()})
	}
	n.announce.Store(&say)
	background.Go(func() {
		if err := c.Run(ctx); err != nil && ctx.Err() == nil {
			n.Log.Error("cluster connection", "error", err)
		}
	})
	background.Go(func() {
		if err := c.Watch(ctx, n.live.apply); err != nil && ctx.Err() == nil {
			n.Log.Error("watching the configuration", "error", err)
		}
	})
	background.Go(func() {
		tick := time.NewTicker(announceTick)
		defer tick.Stop()
		for {
			say()
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return nil
}

// awaitShared waits for the shared configuration: a fresh one, or after a while the cached one.
func (b *boot) awaitShared(ctx context.Context, n *Node) error {
	var cached <-chan time.Time
	if n.Options().HomeDomain != "" {
		timer := time.NewTimer(clusterGrace)
		defer timer.Stop()
		cached = timer.C
	}
	select {
	case <-n.live.fresh:
		return nil
	case <-cached:
		n.Log.Warn("the cluster sends no configuration, starting with the cached copy")
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the shared configuration: %w", ctx.Err())
	}
}

// stop drains and ends the role after a signal. A second signal ends everything at once.
func (b *boot) stop(n *Node, why string, stopServing context.CancelFunc, ended <-chan error) error {
	n.Log.Info("stopping", "reason", why)
	hard := b.hardSignal()
	drained, ordered := n.drains.present()
	if !ordered {
		drained = n.drains.order(signalDrain)
	}
	var runErr error
	over := false
	select {
	case <-drained:
	case runErr = <-ended:
		over = true
	case <-hard:
		return errSignal
	}
	if say := n.announce.Load(); say != nil {
		(*say)() // the registry should say drained, not failed, when the lease ends
	}
	stopServing()
	if over {
		return unlessCanceled(runErr)
	}
	select {
	case runErr = <-ended:
		n.Log.Info("stopped")
		return unlessCanceled(runErr)
	case <-hard:
		return errSignal
	case <-time.After(stopGrace):
		return fmt.Errorf("the role did not end within %s", stopGrace)
	}
}

func unlessCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// hardSignal delivers the next signal that is not SIGHUP.
func (b *boot) hardSignal() <-chan struct{} {
	out := make(chan struct{})
	go func() {
		for s := range b.signals {
			if s != syscall.SIGHUP {
				close(out)
				return
			}
		}
	}()
	return out
}
