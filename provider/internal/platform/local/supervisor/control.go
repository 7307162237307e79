package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/layout"
)

// NodeStatus is what the supervisor knows of one node.
type NodeStatus struct {
	PID       int       `json:"pid"` // 0 while it waits to start again
	StartedAt time.Time `json:"started_at"`
	Restarts  int       `json:"restarts"`
	LastExit  string    `json:"last_exit,omitempty"`
}

// Status is what the supervisor knows.
type Status struct {
	PID        int                   `json:"pid"`
	Binary     string                `json:"binary"` // SHA-256 of the supervisor's executable
	NameServer string                `json:"name_server"`
	Nodes      map[string]NodeStatus `json:"nodes"`
}

func (s *Supervisor) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { s.writeStatus(w) })
	mux.HandleFunc("POST /sync", func(w http.ResponseWriter, r *http.Request) {
		if err := s.Sync(context.WithoutCancel(r.Context())); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		s.writeStatus(w)
	})
	mux.HandleFunc("POST /stop", func(http.ResponseWriter, *http.Request) { s.leave() })
	mux.HandleFunc("POST /handover", func(http.ResponseWriter, *http.Request) {
		s.mu.Lock()
		s.handover = true
		s.mu.Unlock()
		s.leave()
	})
	return mux
}

func (s *Supervisor) writeStatus(w http.ResponseWriter) {
	s.mu.Lock()
	status := Status{PID: os.Getpid(), Binary: s.binary, NameServer: s.address.String(), Nodes: map[string]NodeStatus{}}
	for name, k := range s.keepers {
		status.Nodes[name] = k.status()
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(status); err != nil {
		s.log.Debug("answering on the control socket", "error", err)
	}
}

// ErrDown means that no supervisor answers.
var ErrDown = errors.New("the supervisor does not run")

// Client speaks to the supervisor of one folder.
type Client struct {
	folder layout.Folder
	http   http.Client
}

// NewClient opens nothing yet.
func NewClient(folder layout.Folder) *Client {
	c := &Client{folder: folder}
	c.http.Transport = &http.Transport{DialContext: c.dial, DisableKeepAlives: true}
	return c
}

// dial goes through /proc/self/fd, because the socket's own path may be longer than the system allows.
func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	fd, err := unix.Open(c.folder.SupervisorDir(), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDown, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d/control.sock", fd))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDown, err)
	}
	return conn, nil
}

// Status asks for it; ErrDown if nobody answers.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return c.call(ctx, http.MethodGet, "/status")
}

// Sync makes the supervisor follow the folder, and returns when it has.
func (c *Client) Sync(ctx context.Context) (Status, error) {
	return c.call(ctx, http.MethodPost, "/sync")
}

// Stop tells it to end all nodes and itself. It does not wait.
func (c *Client) Stop(ctx context.Context) error {
	_, err := c.call(ctx, http.MethodPost, "/stop")
	return err
}

// Handover tells it to end and leave its nodes running. It does not wait.
func (c *Client) Handover(ctx context.Context) error {
	_, err := c.call(ctx, http.MethodPost, "/handover")
	return err
}

func (c *Client) call(ctx context.Context, method, path string) (Status, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://supervisor"+path, http.NoBody)
	if err != nil {
		return Status{}, fmt.Errorf("asking the supervisor: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return Status{}, fmt.Errorf("asking the supervisor: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return Status{}, fmt.Errorf("asking the supervisor: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return Status{}, fmt.Errorf("supervisor: %s", bytes.TrimSpace(body))
	}
	var status Status
	if len(body) == 0 {
		return status, nil
	}
	if err := json.Unmarshal(body, &status); err != nil {
		return Status{}, fmt.Errorf("supervisor's answer: %w", err)
	}
	return status, nil
}
