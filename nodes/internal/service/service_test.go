package service

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/service/servicetest"
)

// TestMain is the test binary, or a node when it is started as one: a real process with a role that holds what its
// clients tell it to.
func TestMain(m *testing.M) {
	if os.Getenv("SERVICE_TEST_NODE") != "" {
		Main(config.Edge, startEcho)
	}
	os.Exit(m.Run())
}

// echo is a tiny role: it holds each connection until the client closes it.
type echo struct {
	ln      net.Listener
	log     *slog.Logger
	mu      sync.Mutex
	held    int64
	changed chan struct{}
}

func startEcho(_ context.Context, n *Node) (Running, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(n.Options().LocalIP, "5060"))
	if err != nil {
		return nil, err
	}
	e := &echo{ln: ln, log: n.Log, changed: make(chan struct{}, 1)}
	n.Holds("connections", func() int64 {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.held
	})
	n.OnOptions(func(o *config.Options) { n.Log.Info("options", "home_domain", o.HomeDomain) })
	return e, nil
}

func (e *echo) Run(ctx context.Context) error {
	context.AfterFunc(ctx, func() { _ = e.ln.Close() })
	for {
		c, err := e.ln.Accept()
		if err != nil {
			return nil
		}
		e.add(1)
		go func() {
			_, _ = io.Copy(c, c)
			e.add(-1)
		}()
	}
}

func (e *echo) add(n int64) {
	e.mu.Lock()
	e.held += n
	e.mu.Unlock()
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

func (e *echo) Drain(ctx context.Context) error {
	for {
		e.mu.Lock()
		left := e.held
		e.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-e.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *echo) Resume() {}

func startProcess(t *testing.T, args ...string) *servicetest.Process {
	t.Helper()
	return servicetest.Start(t, "SERVICE_TEST_NODE=1", args...)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // polling another process, with a deadline
	}
}

func get(ip, path string) (int, string) {
	resp, err := http.Get(fmt.Sprintf("http://%s:%d%s", ip, config.HealthPort(config.Edge), path)) //nolint:noctx // a test
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

const shared = "home_domain=example.com\n"

func TestNodeJoinsServesDrainsAndStops(t *testing.T) {
	t.Parallel()
	s := servicetest.NewSite(t, "127.21.1.1")
	dir := s.Folder(t, config.Edge, "127.21.1.2", shared)
	p := startProcess(t, "--config-dir", dir)
	p.Await(t, `"serving"`) // the cluster is away: the cached configuration is used
	p.Await(t, "starting with the cached copy")
	p.Await(t, `"home_domain":"example.com"`)
	eventually(t, "ready", func() bool { code, _ := get("127.21.1.2", "/readyz"); return code == 200 })
	if code, text := get("127.21.1.2", "/metrics"); code != 200 || !strings.Contains(text, "ims_node_ready 1") {
		t.Errorf("metrics: %d", code)
	}
	if code, _ := get("127.21.1.2", "/debug/pprof/"); code != 404 {
		t.Errorf("profiles are open: %d", code)
	}
	c := s.Client(t, config.Edge, "127.21.1.2", pki.RoleOperator)
	status, err := c.Status(t.Context())
	if err != nil || status.State != management.Ready || status.Name != "edge-1.site1" || len(status.Digest) != 64 {
		t.Fatalf("status %+v, %v", status, err)
	}
	held, err := net.Dial("tcp", "127.21.1.2:5060")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "held", func() bool {
		status, err := c.Status(t.Context())
		return err == nil && status.Held["connections"] == 1
	})
	if err := c.Drain(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	eventually(t, "draining", func() bool {
		status, err := c.Status(t.Context())
		return err == nil && status.State == management.Draining
	})
	if code, text := get("127.21.1.2", "/readyz"); code != 503 || !strings.Contains(text, "draining") {
		t.Errorf("readyz while draining: %d %s", code, text)
	}
	if err := c.Undrain(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ready again", func() bool { code, _ := get("127.21.1.2", "/readyz"); return code == 200 })
	if err := c.Drain(t.Context(), time.Minute); err != nil {
		t.Fatal(err)
	}
	_ = held.Close()
	eventually(t, "drained", func() bool {
		status, err := c.Status(t.Context())
		return err == nil && status.State == management.Drained
	})
	_ = p.Signal(syscall.SIGTERM)
	if code := p.Exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, line := range strings.Split(p.Output(), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("the log is not JSON: %s", line)
		}
	}
}

func TestManagementKnowsItsCallers(t *testing.T) {
	t.Parallel()
	s := servicetest.NewSite(t, "127.21.2.1")
	p := startProcess(t, "--config-dir", s.Folder(t, config.Edge, "127.21.2.2", shared))
	p.Await(t, `"serving"`)
	if _, err := s.Client(t, config.Edge, "127.21.2.2", "router").Status(t.Context()); err != nil {
		t.Errorf("a node may read: %v", err)
	}
	if err := s.Client(t, config.Edge, "127.21.2.2", "router").Drain(t.Context(), 0); management.StatusOf(err) != 403 {
		t.Errorf("a router drained another node: %v", err)
	}
	roots, _ := pki.Pool(s.CA.CertificatePEM())
	nobody := management.NewClient(fmt.Sprintf("127.21.2.2:%d", config.ManagementPort(config.Edge)), pki.ClientTLS(roots, nil, "edge"))
	if _, err := nobody.Status(t.Context()); management.StatusOf(err) != 401 {
		t.Errorf("without a certificate: %v", err)
	}
	operator := s.Client(t, config.Edge, "127.21.2.2", pki.RoleOperator)
	if err := operator.Drain(t.Context(), -5*time.Second); management.StatusOf(err) != 400 {
		t.Errorf("a negative deadline: %v", err)
	}
	if _, err := operator.Config(t.Context(), "nothing"); management.StatusOf(err) != 404 {
		t.Errorf("a call that an edge does not have: %v", err)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := servicetest.NewSite(t, "127.21.3.1")
	p := startProcess(t, "--config-dir", s.Folder(t, config.Edge, "127.21.3.2", shared))
	p.Await(t, `"serving"`)
	held, err := net.Dial("tcp", "127.21.3.2:5060")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	c := s.Client(t, config.Edge, "127.21.3.2", pki.RoleOperator)
	eventually(t, "held", func() bool {
		status, err := c.Status(t.Context())
		return err == nil && status.Held["connections"] == 1
	})
	_ = p.Signal(syscall.SIGTERM)
	p.Await(t, `"stopping"`)
	begin := time.Now()
	_ = p.Signal(syscall.SIGTERM)
	if code := p.Exit(t); code != 1 || time.Since(begin) > 5*time.Second {
		t.Errorf("exit code %d after %v", code, time.Since(begin))
	}
	if !strings.Contains(p.Stderr(), "second signal") {
		t.Errorf("stderr: %s", p.Stderr())
	}
}

func TestNodeWaitsForItsTokenToBeKnown(t *testing.T) {
	t.Parallel()
	s := servicetest.NewSite(t, "127.21.4.1")
	dir := s.Folder(t, config.Edge, "127.21.4.2", shared)
	local, _ := os.ReadFile(filepath.Join(dir, "local_config"))
	write(t, filepath.Join(dir, "local_config"), strings.Replace(string(local), "join-secret", "other", 1))
	p := startProcess(t, "--config-dir", dir)
	p.Await(t, "no such token")
	code, text := get("127.21.4.2", "/readyz")
	if code != 503 || !strings.Contains(text, "waiting for a certificate") {
		t.Errorf("readyz: %d %s", code, text)
	}
	if code, _ := get("127.21.4.2", "/livez"); code != 200 {
		t.Errorf("livez: %d", code)
	}
	_ = p.Signal(syscall.SIGTERM)
	if code := p.Exit(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestOccupiedPortsAreNamed(t *testing.T) {
	t.Parallel()
	s := servicetest.NewSite(t, "127.21.5.1")
	dir := s.Folder(t, config.Edge, "127.21.5.2", shared)
	for _, port := range []int{config.HealthPort(config.Edge), config.ManagementPort(config.Edge), config.PortEdgeSIP} {
		address := fmt.Sprintf("127.21.5.2:%d", port)
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		p := startProcess(t, "--config-dir", dir)
		if code := p.Exit(t); code != 1 {
			t.Errorf("%s: exit code %d", address, code)
		}
		if text := p.Stderr(); !strings.Contains(text, address) || !strings.Contains(text, "address already in use") {
			t.Errorf("%s: stderr %q", address, text)
		}
		_ = ln.Close()
	}
}

func TestCheckConfig(t *testing.T) {
	t.Parallel()
	s := servicetest.NewSite(t, "127.21.6.1")
	good := s.Folder(t, config.Edge, "127.21.6.2", shared)
	local, _ := os.ReadFile(filepath.Join(good, "local_config"))
	for name, tc := range map[string]struct {
		change func(dir string)
		code   int
		want   []string
	}{
		"valid":     {func(string) {}, 0, nil},
		"no folder": {func(dir string) { _ = os.RemoveAll(dir) }, 1, []string{"local_config"}},
		"wrong role": {func(dir string) {
			write(t, filepath.Join(dir, "local_config"), strings.Replace(string(local), "node_role=edge", "node_role=router", 1))
		}, 1, []string{"node_role", "router", "edge"}},
		"no ca": {func(dir string) { _ = os.Remove(filepath.Join(dir, "ca.pem")) }, 1, []string{"ca_certificate_file", "ca.pem"}},
		"bad values": {func(dir string) {
			write(t, filepath.Join(dir, "shared_config"), "home_domain=example.com\nreg_max_expires=soon\n\nmax_session_expires=20\n")
			write(t, filepath.Join(dir, "user_settings"), "log_leve=3\n")
		}, 1, []string{"shared_config:2: option reg_max_expires", `"soon"`, "shared_config:4: option max_session_expires", "90", "user_settings:1", "log_level"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := s.Folder(t, config.Edge, "127.21.6.2", shared)
			tc.change(dir)
			p := startProcess(t, "--config-dir", dir, "--check-config")
			code := p.Exit(t)
			text := p.Output() + p.Stderr()
			if code != tc.code {
				t.Errorf("exit code %d: %s", code, text)
			}
			for _, want := range tc.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in %s", want, text)
				}
			}
		})
	}
	for _, args := range [][]string{{"--nonsense"}, {"extra"}} {
		if code := startProcess(t, args...).Exit(t); code != 1 {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
	if code := startProcess(t, "--version").Exit(t); code != 0 {
		t.Errorf("--version: exit code %d", code)
	}
}
