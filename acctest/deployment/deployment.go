// Package deployment brings up the local scenario with the built binaries, as a user does, for tests from outside. It
// uses scripts/terraform.sh, so what it starts is what `make up` starts, under an environment name of the test's own.
package deployment

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// Deployment is one environment.
type Deployment struct {
	Env        string
	Domain     string
	Proxies    []string // address:port of the edges
	Portal     string
	NameServer string
	Nodes      map[string]string // node name -> address
	Secrets    map[string]string // option -> file
	Vars       map[string]any
	Scenario   string // folder of examples/scenarios; default local
	root       string
}

// Root is the work tree.
func Root() (string, error) {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, statErr := os.Stat(filepath.Join(dir, "go.mod")); statErr == nil {
			return dir, nil
		}
		dir = filepath.Dir(dir)
	}
	return "", errors.Join(errors.New("no go.mod above the working folder"), err)
}

// New names a deployment of this work tree; it starts nothing.
func New(env string, vars map[string]any) (*Deployment, error) {
	root, err := Root()
	return &Deployment{Env: env, Vars: vars, root: root}, err
}

// Up applies the scenario and has it destroyed when the test ends; a failed destroy fails the test.
func Up(t *testing.T, env string, vars map[string]any) *Deployment {
	t.Helper()
	d, err := New(env, vars)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			d.KeepLogs()
		}
		if err := d.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := d.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return d
}

// Destroy destroys the deployment and forgets its Terraform state.
func (d *Deployment) Destroy(ctx context.Context) error {
	if out, err := d.Terraform(ctx, "destroy", d.arguments()...); err != nil {
		return fmt.Errorf("destroying %s: %w\n%s", d.Env, err, out)
	}
	return os.RemoveAll(filepath.Join(d.root, ".state", "terraform", d.Env))
}

// Apply applies with changed variables (they stay changed) and reads the outputs.
func (d *Deployment) Apply(ctx context.Context, change map[string]any) error {
	if d.Vars == nil {
		d.Vars = map[string]any{}
	}
	for name, value := range change {
		d.Vars[name] = value
	}
	if out, err := d.Terraform(ctx, "apply", d.arguments()...); err != nil {
		return fmt.Errorf("applying %s: %w\n%s", d.Env, err, out)
	}
	return d.readOutputs(ctx)
}

// Plan returns the exit code of plan -detailed-exitcode: 0 empty, 2 changes.
func (d *Deployment) Plan(ctx context.Context) (int, string, error) {
	out, err := d.Terraform(ctx, "plan", append(d.arguments(), "-detailed-exitcode")...)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), out, nil
	}
	return 0, out, err
}

func (d *Deployment) arguments() []string {
	var out []string
	for name, value := range d.Vars {
		text, _ := json.Marshal(value)
		if s, ok := value.(string); ok {
			text = []byte(s)
		}
		out = append(out, "-var="+name+"="+string(text))
	}
	return out
}

// Terraform runs a verb through scripts/terraform.sh and returns what it printed.
func (d *Deployment) Terraform(ctx context.Context, verb string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(d.root, "scripts", "terraform.sh"), append([]string{verb}, args...)...)
	cmd.Env = append(os.Environ(), "ENV="+d.Env)
	if d.Scenario != "" {
		cmd.Env = append(cmd.Env, "SCENARIO="+d.Scenario)
	}
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func (d *Deployment) readOutputs(ctx context.Context) error {
	text, err := d.Terraform(ctx, "output", "-json")
	if err != nil {
		return fmt.Errorf("reading outputs: %w\n%s", err, text)
	}
	var outputs map[string]struct {
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal([]byte(text), &outputs); err != nil {
		return fmt.Errorf("reading outputs: %w", err)
	}
	d.Nodes, d.Secrets, d.Proxies = nil, nil, nil // a map would keep what is gone
	for name, target := range map[string]any{
		"home_domain": &d.Domain, "sip_proxies": &d.Proxies, "portal_url": &d.Portal, "name_server": &d.NameServer, "nodes": &d.Nodes, "secrets": &d.Secrets,
	} {
		if err := json.Unmarshal(outputs[name].Value, target); err != nil {
			return fmt.Errorf("reading output %s: %w", name, err)
		}
	}
	return nil
}

// Folder is the deployment's state folder on this machine.
func (d *Deployment) Folder() string { return filepath.Join(d.root, ".state", "deployments", d.Env) }

// Network is the first three bytes of the deployment's addresses; .200 and up are free for phones.
func (d *Deployment) Network() string {
	host, _, err := net.SplitHostPort(d.NameServer)
	if err != nil {
		host = d.NameServer
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return "127.0.0"
	}
	four := addr.As4()
	return fmt.Sprintf("%d.%d.%d", four[0], four[1], four[2])
}

// Address is that of a node: "router-1.site1" or its beginning.
func (d *Deployment) Address(node string) string {
	for name, address := range d.Nodes {
		if name == node || strings.HasPrefix(name, node+".") {
			return address
		}
	}
	return ""
}

// Provisioning is a client of the deployment's provisioning API.
func (d *Deployment) Provisioning() *provisioning.Client {
	return provisioning.New("http://"+net.JoinHostPort(d.Address("diameter-1"), "8889"), nil)
}

// Process is the process id of a node, found by its folder on the command line.
func (d *Deployment) Process(node string) (int, error) {
	folder := filepath.Join(d.Folder(), "nodes", node)
	matches, err := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, m := range matches {
		if text, readErr := os.ReadFile(m); readErr == nil && strings.Contains(string(text), folder) {
			return strconv.Atoi(strings.Split(m, "/")[2])
		}
	}
	return 0, errors.Join(fmt.Errorf("no process of %s", node), err)
}

// Gauge reads a metric without labels from a node's health port; 0 when it cannot.
func (d *Deployment) Gauge(ctx context.Context, node, metric string) int {
	role, _, _ := strings.Cut(node, "-")
	url := fmt.Sprintf("http://%s:%d/metrics", d.Address(node), config.HealthPort(config.Role(role)))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	for line := range strings.SplitSeq(string(text), "\n") {
		if value, ok := strings.CutPrefix(line, metric+" "); ok {
			f, _ := strconv.ParseFloat(value, 64)
			return int(f)
		}
	}
	return 0
}

// KeepLogs copies the nodes' logs to build/test/logs/<environment>.
func (d *Deployment) KeepLogs() {
	target := filepath.Join(d.root, "build", "test", "logs", d.Env)
	_ = os.RemoveAll(target)
	_ = filepath.Walk(d.Folder(), func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() || !strings.HasSuffix(path, ".log") {
			return nil //nolint:nilerr // what cannot be read is not kept
		}
		rel, _ := filepath.Rel(d.Folder(), path)
		text, err := os.ReadFile(path)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		to := filepath.Join(target, rel)
		_ = os.MkdirAll(filepath.Dir(to), 0o755)
		return os.WriteFile(to, text, 0o644)
	})
}
