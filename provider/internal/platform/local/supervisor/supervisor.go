// Package supervisor is the one process per deployment that keeps its nodes alive on this machine and answers DNS for
// its zone. What should run stands in the state folder (package layout); the supervisor makes it so, whenever it is
// told that something changed, and once a second. It outlives the provider; when it dies itself, nodes run on, and its
// successor takes them over.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/layout"
)

// ErrRunning means that another supervisor holds the folder's lock.
var ErrRunning = errors.New("another supervisor runs for this deployment")

// watchInterval is how often the folder is looked at without being told; log files are cut then, too.
const watchInterval = time.Second

// Supervisor of one state folder.
type Supervisor struct {
	folder   layout.Folder
	binary   string // SHA-256 of this executable
	log      *slog.Logger
	dns      *nameServer
	address  netip.AddrPort
	leave    context.CancelFunc // ends the supervisor
	handover bool               // leave the nodes running; written before leave, read after

	mu      sync.Mutex
	keepers map[string]*keeper
	serial  uint32
}

// New takes the folder's lock and the name server's sockets.
func New(ctx context.Context, folder layout.Folder, binary string, log *slog.Logger) (*Supervisor, error) {
	deployment, err := folder.ReadDeployment()
	if err != nil {
		return nil, err
	}
	if err := takeLock(folder); err != nil {
		return nil, err
	}
	address, err := serverAddress(deployment)
	if err != nil {
		return nil, err
	}
	server, err := listenDNS(ctx, address.String(), log)
	if err != nil {
		return nil, err
	}
	return &Supervisor{folder: folder, binary: binary, log: log, dns: server, address: address,
		keepers: map[string]*keeper{}, serial: uint32(time.Now().Unix())}, nil //nolint:gosec // a serial number wraps by design (RFC 1982)
}

func serverAddress(d layout.Deployment) (netip.AddrPort, error) {
	block, err := netip.ParsePrefix(d.Block)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("deployment's block of addresses: %w", err)
	}
	bytes := block.Addr().As4()
	bytes[3] = 2
	return netip.AddrPortFrom(netip.AddrFrom4(bytes), uint16(d.Ports.DNS)), nil //nolint:gosec // a port
}

// takeLock holds the lock for the life of the process. The file keeps the pid, for people and for a wedged supervisor.
func takeLock(folder layout.Folder) error {
	if err := os.MkdirAll(folder.SupervisorDir(), 0o700); err != nil {
		return fmt.Errorf("taking the lock: %w", err)
	}
	fd, err := unix.Open(folder.Lock(), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("taking the lock: %w", err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("%w (lock: %w)", ErrRunning, err)
	}
	_ = unix.Ftruncate(fd, 0)
	_, err = unix.Write(fd, []byte(strconv.Itoa(os.Getpid())+"\n"))
	if err != nil {
		return fmt.Errorf("writing the lock: %w", err)
	}
	return nil // fd stays open: closing it would give the lock back
}

// Run serves until it is told to stop or to hand over, by the socket or by a signal (which stops the nodes too).
func (s *Supervisor) Run(parent context.Context) error {
	ctx, cancel := signal.NotifyContext(parent, syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	ctx, s.leave = context.WithCancel(ctx)
	defer s.leave()
	listener, err := s.listen(ctx)
	if err != nil {
		return err
	}
	if err := s.adopt(ctx); err != nil {
		return err
	}
	if err := s.Sync(ctx); err != nil {
		s.log.Error("reading the state folder", "error", err)
	}
	s.log.Info("supervising", "pid", os.Getpid(), "name_server", s.address.String())
	server := &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.dns.run(groupCtx) })
	group.Go(func() error { return s.watch(groupCtx) })
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("control socket: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-groupCtx.Done()
		end, done := context.WithTimeout(context.WithoutCancel(groupCtx), time.Second)
		defer done()
		return server.Shutdown(end)
	})
	err = group.Wait()
	s.stopKeepers()
	return errors.Join(err, ignoreMissing(os.Remove(s.folder.Socket())))
}

// listen opens the control socket by a path relative to the working directory: an absolute one may be longer than the
// 108 bytes that the system allows.
func (s *Supervisor) listen(ctx context.Context) (net.Listener, error) {
	if err := os.Chdir(s.folder.SupervisorDir()); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	const name = "control.sock"
	if err := ignoreMissing(os.Remove(name)); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	old := syscall.Umask(0o077) // the socket is for its owner alone
	defer syscall.Umask(old)
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", name)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // removed when all is ended, by Run
	return listener, nil
}

// watch follows the folder between the provider's calls: a node's folder may be removed by hand.
func (s *Supervisor) watch(ctx context.Context) error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := s.folder.ReadDeployment(); errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("the state folder is gone: stopping everything")
			s.leave()
			return nil
		}
		if err := s.Sync(ctx); err != nil {
			s.log.Error("reading the state folder", "error", err)
		}
		s.cutLogs()
	}
}

// adopt takes over nodes that an earlier supervisor left running, and ends processes whose node is gone.
func (s *Supervisor) adopt(ctx context.Context) error {
	processes, err := s.folder.Processes()
	if err != nil {
		return err
	}
	for _, p := range processes {
		if p.Node == "" || p.PID == os.Getpid() {
			continue
		}
		node, err := s.folder.ReadNode(p.Node)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			s.log.Warn("ending a process whose node is gone", "node", p.Node, "pid", p.PID)
			_ = syscall.Kill(p.PID, syscall.SIGKILL) // it may have ended by itself
		case err != nil:
			return err
		case p.Leader:
			k := newKeeper(s.folder, node, s.log)
			k.adopted = p.PID
			s.keepers[node.Name] = k
			k.start(context.WithoutCancel(ctx))
			s.log.Info("node taken over", "node", node.Name, "pid", p.PID)
		}
	}
	return nil
}

// Sync makes processes and zone equal to the folder. It returns when what had to end has ended.
func (s *Supervisor) Sync(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	nodes, err := s.folder.Nodes()
	if err != nil {
		return err
	}
	wanted := map[string]layout.Node{}
	for _, n := range nodes {
		if !n.Deleting {
			wanted[n.Name] = n
		}
	}
	var stopping sync.WaitGroup
	for name, k := range s.keepers {
		if n, ok := wanted[name]; ok && n.Binary == k.node.Binary && n.Config == k.node.Config && n.Incarnation == k.node.Incarnation {
			continue
		}
		delete(s.keepers, name)
		stopping.Go(k.stop)
	}
	stopping.Wait()
	for name, n := range wanted {
		if s.keepers[name] == nil {
			k := newKeeper(s.folder, n, s.log)
			s.keepers[name] = k
			k.start(context.WithoutCancel(ctx)) // a keeper outlives the request that made it
		}
	}
	return s.loadZone()
}

func (s *Supervisor) loadZone() error {
	deployment, err := s.folder.ReadDeployment()
	if err != nil {
		return err
	}
	sets, err := s.folder.Records()
	if err != nil {
		return err
	}
	s.serial++
	z, err := newZone(deployment.HomeDomain, s.address.Addr().String(), s.serial, max(1, deployment.TTL), sets)
	if err != nil {
		return err
	}
	s.dns.zone.Store(z)
	return nil
}

func (s *Supervisor) stopKeepers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	var stopping sync.WaitGroup
	for _, k := range s.keepers {
		if s.handover {
			stopping.Go(k.release)
		} else {
			stopping.Go(k.stop)
		}
	}
	stopping.Wait()
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
