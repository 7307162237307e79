package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// TestMain makes this test binary the store when a test starts it as one: the tests here are about processes.
func TestMain(m *testing.M) {
	switch remote := os.Getenv("STORE_SHARED_ENGINE"); {
	case remote != "":
		run(openRemote(remote))
		return
	case os.Getenv("STORE_UNDER_TEST") != "":
		main()
		return
	}
	os.Exit(m.Run())
}

const (
	zone  = "lab.example.com"
	token = "a-token-for-tests"
)

// lab is one store node of a deployment of its own, on its own loopback address.
type lab struct {
	t        testing.TB
	address  string
	dir      string
	site     *pki.Authority
	roots    *x509.CertPool
	operator *tls.Config
	environ  []string // of the process, beside the test's own
	token    string   // join token
	patience time.Duration
	process  *exec.Cmd
	ended    chan error
	log      *os.File
}

// newLab makes a deployment and its node's files; address must be used by one test only.
func newLab(t testing.TB, address string) *lab {
	t.Helper()
	if p, ok := t.(interface{ Parallel() }); ok {
		p.Parallel()
	}
	deployment, err := pki.NewDeploymentCA("lab")
	if err != nil {
		t.Fatal(err)
	}
	site, err := deployment.NewSiteCA("site1")
	if err != nil {
		t.Fatal(err)
	}
	return newNode(t, deployment, site, 1, address, address+":10053")
}

// newNode makes the files of store node index of a site.
func newNode(t testing.TB, deployment, site *pki.Authority, index int, address, dns string) *lab {
	t.Helper()
	l := &lab{t: t, address: address, dir: t.TempDir(), site: site, token: token, environ: []string{"STORE_UNDER_TEST=1"}}
	var err error
	l.roots, err = pki.Pool(deployment.CertificatePEM())
	l.must(err)
	l.operator = l.client(deployment, pki.Subject{Name: "terraform", Role: pki.RoleOperator})
	l.write("ca.pem", string(deployment.CertificatePEM()))
	l.write(config.LocalFile, fmt.Sprintf(`node_role=store
deployment_id=lab
dns_zone=%s
local_ip=%s
public_ip=%s
public_hostname=store-%d.site1.%s
node_idx=%d
signaling_dns_server=%s
join_token=%s
`, zone, address, address, index, zone, index, dns, l.token))
	l.log, err = os.Create(filepath.Join(l.dir, "log"))
	l.must(err)
	t.Cleanup(func() {
		l.kill()
		if t.Failed() {
			text, _ := os.ReadFile(l.log.Name())
			t.Logf("log of the store:\n%s", text)
		}
	})
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) write(name, text string) {
	l.t.Helper()
	l.must(os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o600))
}

// options adds lines to the node's local_config.
func (l *lab) options(lines string) {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.dir, "local_config"))
	l.must(err)
	l.write("local_config", string(text)+lines)
}

func (l *lab) client(by *pki.Authority, s pki.Subject) *tls.Config {
	l.t.Helper()
	chain, key, err := by.Issue(s, time.Hour)
	l.must(err)
	source, err := pki.Static(chain, key)
	l.must(err)
	return pki.ClientTLS(l.roots, source, "store")
}

// start runs the store as a process.
func (l *lab) start() {
	l.t.Helper()
	self, err := os.Executable()
	l.must(err)
	l.process = exec.Command(self, "--config-dir", l.dir) //nolint:noctx // it is ended by kill
	l.process.Env = append(os.Environ(), l.environ...)
	l.process.Stdout, l.process.Stderr = l.log, l.log
	l.must(l.process.Start())
	l.ended = make(chan error, 1)
	go func(p *exec.Cmd, ended chan<- error) { ended <- p.Wait() }(l.process, l.ended)
}

// kill ends the process without any chance to prepare.
func (l *lab) kill() {
	if l.process == nil {
		return
	}
	_ = l.process.Process.Kill()
	<-l.ended
	l.process = nil
}

// stop ends the process in order.
func (l *lab) stop() {
	l.t.Helper()
	l.must(l.process.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-l.ended:
		l.process = nil
		if err != nil {
			l.t.Errorf("the store ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		l.t.Fatal("the store does not end after SIGTERM")
	}
}

// eventually tries f until it succeeds; what it lacked is the failure.
func (l *lab) eventually(limit time.Duration, f func() error) {
	l.t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			l.t.Fatalf("after %s: %v", limit, err)
		case <-tick.C:
		}
	}
}

func (l *lab) management() *management.Client {
	c := management.NewClient(fmt.Sprintf("%s:%d", l.address, config.ManagementPort(config.Store)), l.operator)
	l.t.Cleanup(c.Close)
	return c
}

func (l *lab) get(url string) (int, string, error) {
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// ready waits until the node may get traffic.
func (l *lab) ready() {
	l.t.Helper()
	l.eventually(max(30*time.Second, l.patience), func() error {
		code, body, err := l.get(fmt.Sprintf("http://%s:%d/readyz", l.address, config.HealthPort(config.Store)))
		if err == nil && code != http.StatusOK {
			err = errors.New(body)
		}
		return err
	})
}

func (l *lab) bootstrapRequest(shared map[string]string) management.BootstrapRequest {
	key, err := l.site.KeyPEM()
	l.must(err)
	return management.BootstrapRequest{SiteCA: string(l.site.CertificatePEM()), SiteCAKey: string(key), SharedConfig: shared}
}

// bootstrap founds the cluster and returns its id.
func (l *lab) bootstrap(shared map[string]string) string {
	l.t.Helper()
	address := fmt.Sprintf("%s:%d", l.address, config.ManagementPort(config.Store))
	l.eventually(10*time.Second, func() error {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec,noctx // only to see that it listens
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	ctx, cancel := context.WithTimeout(l.t.Context(), 30*time.Second)
	defer cancel()
	id, err := management.Bootstrap(ctx, address, token, l.bootstrapRequest(shared))
	l.must(err)
	if id == "" {
		l.t.Fatal("the cluster has no id")
	}
	return id
}

// call connects to the store as a router does; closing is the test's end.
func (l *lab) call() *rpc.Client {
	l.t.Helper()
	c := rpc.NewClient(rpc.ClientConfig{
		Name: "store", TLS: l.client(l.site, pki.Subject{Name: "router-1.site1", Role: "router"}), Timeout: 5 * time.Second,
		Resolve: func(context.Context) ([]netip.AddrPort, error) {
			return []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(l.address), config.PortStoreRPC)}, nil
		},
	})
	ctx, cancel := context.WithCancel(l.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Run(ctx)
	}()
	l.t.Cleanup(func() {
		cancel()
		<-done
	})
	return c
}

func shared(router string) map[string]string {
	return map[string]string{"home_domain": "example.com", "sprout_chronos_callback_uri": router}
}

// metric reads one sample from the node's metrics, 0 when it is not there.
func (l *lab) metric(name string) (value float64) {
	l.t.Helper()
	_, body, err := l.get(fmt.Sprintf("http://%s:%d/metrics", l.address, config.HealthPort(config.Store)))
	l.must(err)
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, err := fmt.Sscan(rest, &value)
			l.must(err)
		}
	}
	return value
}

// child is the process id of the store's etcd member; it fails the test when there is none.
func (l *lab) child() (pid int) {
	l.t.Helper()
	l.eventually(10*time.Second, func() error {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", l.process.Process.Pid))
		if err != nil {
			return err
		}
		for _, task := range tasks { // each thread lists the processes that it started
			text, _ := os.ReadFile(task)
			if _, err := fmt.Sscan(string(text), &pid); err == nil && pid > 1 {
				return nil
			}
		}
		return errors.New("the store has no child process")
	})
	return pid
}
