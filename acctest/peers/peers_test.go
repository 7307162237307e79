// Package peers tests chains of application servers over real sockets: the servers are programs (folder server) that were
// not written with the code of the nodes, and that are silent, refuse, redirect, fork, end calls and die.
package peers

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
	"github.com/clearwater-ims/clearwater/acctest/phone"
)

var (
	shared  *deployment.Deployment //nolint:gochecknoglobals // of this test binary
	program string                 //nolint:gochecknoglobals // path of the application server
	ports   atomic.Int64           //nolint:gochecknoglobals // for servers
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "peers")
	if err == nil {
		defer os.RemoveAll(folder)
		program = filepath.Join(folder, "server")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", program, "./server").CombinedOutput(); err != nil {
			err = fmt.Errorf("building the application server: %w\n%s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	vars := map[string]any{
		"counts":   map[string]int{"router": 2},
		"settings": map[string]string{"disable_tcp_switch": "Y"}, // so that a server on UDP is reached by UDP, however long the request
	}
	return deployment.Main(m, "peers", vars, func(d *deployment.Deployment) { shared = d })
}

// server is an application server that runs.
type server struct {
	t       *testing.T
	address string
	cmd     *exec.Cmd
	done    chan struct{}
	mu      sync.Mutex
	got     []request
	news    chan struct{}
}

type request struct {
	At        int64
	From, Raw string
}

func (r request) method() string { m, _, _ := strings.Cut(r.Raw, " "); return m }

// address is where a server may listen.
func address() string {
	n := ports.Add(1)
	return fmt.Sprintf("%s.%d:%d", shared.Network(), 241+n%9, 5600+n)
}

// serve starts an application server; it is killed at the end of the test.
func serve(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{t: t, address: address(), done: make(chan struct{}), news: make(chan struct{})}
	s.cmd = exec.Command(program, append([]string{"-listen", s.address, "-dns", shared.NameServer}, args...)...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		t.Fatalf("starting an application server: %v", err)
	}
	listening := make(chan struct{})
	go func() {
		defer close(s.done)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var r request
			if json.Unmarshal(lines.Bytes(), &r) != nil || r.Raw == "" {
				close(listening)
				continue
			}
			s.mu.Lock()
			s.got = append(s.got, r)
			close(s.news)
			s.news = make(chan struct{})
			s.mu.Unlock()
		}
		_ = s.cmd.Wait()
	}()
	t.Cleanup(s.kill)
	select {
	case <-listening:
	case <-s.done:
		t.Fatal("the application server has ended")
	}
	return s
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// expect waits for a request to the server.
func (s *server) expect(method string) request {
	s.t.Helper()
	deadline := time.After(6 * time.Second)
	for {
		s.mu.Lock()
		for _, r := range s.got {
			if r.method() == method {
				s.mu.Unlock()
				return r
			}
		}
		news := s.news
		s.mu.Unlock()
		select {
		case <-news:
		case <-deadline:
			s.t.Fatalf("no %s at the application server", method)
		}
	}
}

func (s *server) count(method string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.got {
		if r.method() == method {
			n++
		}
	}
	return n
}

// uri is its name in filter criteria.
func (s *server) uri(transport string) string { return "sip:" + s.address + ";transport=" + transport }

// criterion is a filter criterion for initial INVITE and MESSAGE; sessionCase 0 is originating, 1 terminating registered.
func criterion(priority, sessionCase, handling int, uri string) string {
	spt := func(inner string) string {
		return "<SPT><ConditionNegated>0</ConditionNegated>" + inner + "<Extension></Extension></SPT>"
	}
	return fmt.Sprintf(`<InitialFilterCriteria><Priority>%d</Priority><TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF>%s%s%s</TriggerPoint>`+
		`<ApplicationServer><ServerName>%s</ServerName><DefaultHandling>%d</DefaultHandling></ApplicationServer></InitialFilterCriteria>`,
		priority, spt("<Group>0</Group><Method>INVITE</Method>"), spt("<Group>0</Group><Method>MESSAGE</Method>"),
		spt(fmt.Sprintf("<Group>1</Group><SessionCase>%d</SessionCase>", sessionCase)), uri, handling)
}

func profile(criteria ...string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><ServiceProfile>` + strings.Join(criteria, "") + `</ServiceProfile>`
}

// callers registers a calling phone with criteria of its own and a called one that takes calls.
func callers(t *testing.T, originating, terminating string) (a, b *phone.Phone) {
	t.Helper()
	a, b = phone.Subscriber(t, shared, originating), phone.Subscriber(t, shared, terminating)
	a.Start()
	b.PickUp()
	register(t, a, b)
	return a, b
}

func register(t *testing.T, phones ...*phone.Phone) {
	t.Helper()
	for _, p := range phones {
		if m := p.Register(300); m.Status() != 200 {
			t.Fatalf("REGISTER is answered by\n%s", m.Raw)
		}
	}
}
