package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync/atomic"
	"time"
)

const (
	firstPause = 200 * time.Millisecond // before a member that died is started again
	lastPause  = 5 * time.Second
	settled    = 30 * time.Second // a member that ran this long starts again without a longer pause
	stopLimit  = 5 * time.Second  // for a member to end in order
)

// Supervisor keeps the member running.
type Supervisor struct {
	Binary string        // to run with Command; empty: this very one
	Member func() Member // asked at every start
	Log    *slog.Logger
	Output io.Writer // of the member's log lines

	restarts atomic.Int64
	process  atomic.Int64
}

// Restarts is how often the member was started again after it had died.
func (s *Supervisor) Restarts() int64 { return s.restarts.Load() }

// PID is the process id of the member, 0 while none runs.
func (s *Supervisor) PID() int { return int(s.process.Load()) }

// Run starts the member and starts it again whenever it dies, until ctx ends; then it ends the member and returns.
func (s *Supervisor) Run(ctx context.Context) error {
	binary := s.Binary
	if binary == "" {
		var err error
		if binary, err = os.Executable(); err != nil {
			return fmt.Errorf("finding this binary: %w", err)
		}
	}
	pause := firstPause
	for {
		started := time.Now()
		err := s.once(ctx, binary)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(started) > settled {
			pause = firstPause
		}
		s.Log.Error("the etcd member died, starting it again", "error", err, "in", pause.String())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		s.restarts.Add(1)
		pause = min(pause*2, lastPause)
	}
}

// once runs the member until it dies or ctx ends. The child lives as long as its standard input is open, so it cannot
// outlive this process, however that ends.
func (s *Supervisor) once(ctx context.Context, binary string) error {
	settings, err := json.Marshal(s.Member())
	if err != nil {
		return fmt.Errorf("preparing the member: %w", err)
	}
	cmd := exec.CommandContext(ctx, binary, Command)
	cmd.Stdout, cmd.Stderr = s.Output, s.Output
	cmd.WaitDelay = stopLimit
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("preparing the member: %w", err)
	}
	cmd.Cancel = in.Close // then it is killed after stopLimit
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the member: %w", err)
	}
	s.process.Store(int64(cmd.Process.Pid))
	defer s.process.Store(0)
	_, writeErr := in.Write(append(settings, '\n'))
	err = cmd.Wait()
	if err == nil {
		err = errors.New("it ended without an error")
	}
	return errors.Join(err, writeErr)
}
