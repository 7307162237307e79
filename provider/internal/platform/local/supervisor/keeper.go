package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/layout"
)

const (
	stopGrace    = 15 * time.Second // between SIGTERM and SIGKILL; a node bounds its own drain at 10 s
	firstBackoff = 100 * time.Millisecond
	longestWait  = 5 * time.Second
	healthyAfter = 10 * time.Second // a process that lived this long starts again at the first back-off
)

// keeper keeps one node's process alive.
type keeper struct {
	folder  layout.Folder
	node    layout.Node
	log     *slog.Logger
	adopted int // pid of a process that an earlier supervisor started, else 0
	cancel  context.CancelFunc
	tried   chan struct{} // closed after the first attempt to start
	done    chan struct{}

	mu       sync.Mutex
	state    NodeStatus
	released bool
}

func newKeeper(folder layout.Folder, node layout.Node, log *slog.Logger) *keeper {
	return &keeper{folder: folder, node: node, log: log.With("node", node.Name),
		tried: make(chan struct{}), done: make(chan struct{})}
}

// start returns when the process runs, or could not be started for now.
func (k *keeper) start(ctx context.Context) {
	ctx, k.cancel = context.WithCancel(ctx)
	go k.run(ctx)
	<-k.tried
}

// stop ends the process and whatever it started, and returns when they are gone.
func (k *keeper) stop() {
	k.cancel()
	<-k.done
}

// release lets the process run on without a keeper.
func (k *keeper) release() {
	k.mu.Lock()
	k.released = true
	k.mu.Unlock()
	k.stop()
}

func (k *keeper) status() NodeStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

func (k *keeper) run(ctx context.Context) {
	defer close(k.done)
	wait := firstBackoff
	tried := sync.OnceFunc(func() { close(k.tried) })
	for {
		began := time.Now()
		pid, ended, err := k.process()
		tried()
		if err == nil {
			k.note(func(s *NodeStatus) { s.PID, s.StartedAt = pid, began.UTC() })
			var gone bool
			if err, gone = k.await(ctx, pid, ended); !gone {
				return
			}
		}
		k.killRest()
		if time.Since(began) > healthyAfter {
			wait = firstBackoff
		}
		k.note(func(s *NodeStatus) { s.PID, s.LastExit, s.Restarts = 0, fmt.Sprint(err), s.Restarts+1 })
		k.log.Warn("node ended; starting it again", "reason", err, "in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, longestWait)
	}
}

func (k *keeper) note(change func(*NodeStatus)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(&k.state)
}

// process adopts or starts the node's process; ended delivers why it ended.
func (k *keeper) process() (pid int, ended <-chan error, err error) {
	if pid := k.adopted; pid != 0 {
		k.adopted = 0
		ended, err := watchForeign(pid)
		return pid, ended, err
	}
	k.killRest() // nobody else may hold its sockets and data
	binary := k.folder.Binary(k.node.Binary)
	out, err := os.OpenFile(k.folder.Log(k.node.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, nil, fmt.Errorf("opening the log: %w", err)
	}
	defer func() { _ = out.Close() }()                                           // the child has its own
	cmd := exec.Command(binary, "--config-dir", k.folder.ConfigDir(k.node.Name)) //nolint:gosec,noctx // our own binary, which outlives us
	cmd.Args[0] = k.node.Role
	cmd.Dir = k.folder.NodeDir(k.node.Name)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + cmd.Dir,
		layout.StateVariable + "=" + string(k.folder), layout.NodeVariable + "=" + k.node.Name}
	if err := cmd.Start(); err != nil {
		return 0, nil, fmt.Errorf("starting: %w", err)
	}
	exit := make(chan error, 1)
	go func() { exit <- exitReason(cmd.Wait()) }()
	k.log.Info("node started", "pid", cmd.Process.Pid)
	return cmd.Process.Pid, exit, nil
}

func exitReason(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// watchForeign tells when a process that is not our child ends.
func watchForeign(pid int) (<-chan error, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("taking over process %d: %w", pid, err)
	}
	ended := make(chan error, 1)
	go func() {
		defer func() { _ = unix.Close(fd) }()
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1) //nolint:gosec // a descriptor
			if !errors.Is(err, unix.EINTR) {
				ended <- errors.New("ended")
				return
			}
		}
	}()
	return ended, nil
}

// await waits for the process to end (gone) or for the keeper to be told to leave; then it ends the process, unless it
// is released.
//
//nolint:revive // the reason is a value here, not a failure of await
func (k *keeper) await(ctx context.Context, pid int, ended <-chan error) (reason error, gone bool) {
	select {
	case reason := <-ended:
		return reason, true
	case <-ctx.Done():
	}
	k.mu.Lock()
	released := k.released
	k.mu.Unlock()
	if released {
		return nil, false
	}
	_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended this moment
	select {
	case reason = <-ended:
	case <-time.After(stopGrace):
		k.log.Warn("node did not end in time; killing it", "pid", pid, "after", stopGrace)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		reason = <-ended
	}
	k.killRest()
	k.log.Info("node stopped", "pid", pid, "exit", reason)
	return nil, false
}

// killRest ends what the node's process left behind.
func (k *keeper) killRest() {
	for range 100 {
		left := 0
		processes, err := k.folder.Processes()
		if err != nil {
			k.log.Error("looking for leftovers", "error", err)
			return
		}
		for _, p := range processes {
			if p.Node == k.node.Name && p.PID != os.Getpid() {
				_ = syscall.Kill(p.PID, syscall.SIGKILL)
				left++
			}
		}
		if left == 0 {
			return
		}
		<-time.After(10 * time.Millisecond) // a killed process takes a moment to be gone
	}
}
