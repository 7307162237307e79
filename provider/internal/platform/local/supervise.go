package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/layout"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/supervisor"
)

// errAddressTaken: the supervisor could not open its name server's socket.
var errAddressTaken = errors.New("the name server's address is taken")

// exitAddressTaken is the exit status by which a supervisor says so.
const exitAddressTaken = 3

// Supervise is the body of the supervisor process: args are the state folder's path and nothing else. It returns the
// exit status.
func Supervise(ctx context.Context, args []string, out io.Writer) int {
	log := slog.New(slog.NewJSONHandler(out, nil))
	if len(args) != 1 {
		log.Error("supervise takes the path of a state folder")
		return 2
	}
	executable, err := os.Executable()
	if err != nil {
		log.Error("finding the executable", "error", err)
		return 1
	}
	s, err := supervisor.New(ctx, layout.Folder(args[0]), filepath.Base(executable), log)
	switch {
	case errors.Is(err, supervisor.ErrRunning):
		log.Info("not started", "reason", err)
		return 0
	case errors.Is(err, syscall.EADDRINUSE):
		log.Error("not started", "error", err)
		return exitAddressTaken
	case err != nil:
		log.Error("not started", "error", err)
		return 1
	}
	if err := s.Run(ctx); err != nil {
		log.Error("supervisor ended", "error", err)
		return 1
	}
	log.Info("supervisor ended")
	return 0
}

// installSupervisor copies the executable into the state folder; its digest names it.
func (l *Local) installSupervisor(folder layout.Folder) (string, error) {
	sum, err := Digest(l.cfg.Supervisor[0])
	if err != nil {
		return "", err
	}
	return sum, installBinary(folder, l.cfg.Supervisor[0], sum)
}

// Digest of a file, SHA-256 in hex.
func Digest(path string) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading a binary: %w", err)
	}
	defer func() { _ = in.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return "", fmt.Errorf("reading a binary: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// installBinary copies an executable into the folder unless it is there, and refuses one that is not what was asked for.
func installBinary(folder layout.Folder, from, sum string) error {
	to := folder.Binary(sum)
	if have, err := Digest(to); err == nil && have == sum {
		return nil
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copying a binary: %w", err)
	}
	if got := sha256.Sum256(text); hex.EncodeToString(got[:]) != sum {
		return fmt.Errorf("copying a binary: %s has digest %x, not %s: it changed since the plan", from, got, sum)
	}
	return layout.WriteFile(to, text, 0o700)
}

// ensureSupervisor starts one where none answers, and replaces one of another build without touching the nodes.
func (l *Local) ensureSupervisor(ctx context.Context, folder layout.Folder, d layout.Deployment) error {
	client := supervisor.NewClient(folder)
	status, err := answers(ctx, client)
	if err == nil && status.Binary == d.Supervisor {
		_, err := client.Sync(ctx)
		return err
	}
	if err == nil {
		if err := client.Handover(ctx); err != nil {
			return err
		}
	} else if err := endProcesses(ctx, folder, func(p layout.Process) bool { return p.Node == "" }); err != nil {
		return err // a wedged one holds the lock
	}
	if err := waitUnlocked(ctx, folder); err != nil {
		return err
	}
	return l.startSupervisor(ctx, folder, d)
}

func answers(ctx context.Context, client *supervisor.Client) (supervisor.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second) // it may be stopping a node (15 s)
	defer cancel()
	return client.Status(ctx)
}

// waitUnlocked waits until no supervisor process of the folder is left.
func waitUnlocked(ctx context.Context, folder layout.Folder) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		processes, err := folder.Processes()
		if err != nil {
			return err
		}
		left := false
		for _, p := range processes {
			left = left || p.Node == ""
		}
		if !left {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("the old supervisor does not end: %w", err)
		}
	}
}

// startSupervisor starts the process in its own session with nothing of ours open, and waits until it answers.
func (l *Local) startSupervisor(ctx context.Context, folder layout.Folder, d layout.Deployment) error {
	if err := os.MkdirAll(folder.SupervisorDir(), 0o700); err != nil {
		return fmt.Errorf("starting the supervisor: %w", err)
	}
	out, err := os.OpenFile(folder.SupervisorLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("starting the supervisor: %w", err)
	}
	defer func() { _ = out.Close() }() // the child has its own
	args := append(append([]string(nil), l.cfg.Supervisor[1:]...), string(folder))
	cmd := exec.Command(folder.Binary(d.Supervisor), args...) //nolint:gosec,noctx // our own binary, which outlives this process
	cmd.Args[0] = "clearwater-local"
	cmd.Dir = folder.SupervisorDir()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", layout.StateVariable + "=" + string(folder)}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the supervisor: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client := supervisor.NewClient(folder)
	for {
		if _, err := client.Status(ctx); err == nil {
			return nil
		}
		select {
		case err := <-ended:
			if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == exitAddressTaken {
				return fmt.Errorf("starting the supervisor: %w", errAddressTaken)
			}
			return fmt.Errorf("the supervisor ended at once (%w): %s", exitReason(err), lastLine(folder.SupervisorLog()))
		case <-ctx.Done():
			return fmt.Errorf("the supervisor does not answer: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func exitReason(err error) error {
	if err == nil {
		return errors.New("exit status 0: another one holds its lock")
	}
	return err
}

func lastLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// stopSupervisor ends it with all nodes, if it lives.
func stopSupervisor(ctx context.Context, folder layout.Folder) error {
	client := supervisor.NewClient(folder)
	if _, err := answers(ctx, client); err != nil {
		return nil //nolint:nilerr // nobody there to stop
	}
	if err := client.Stop(ctx); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, supervisor.ErrDown) {
		return err
	}
	return waitUnlocked(ctx, folder)
}
