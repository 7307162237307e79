package provider

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
)

// root is a Terraform root module of a test's own, with the provider installed by the scripts.
type root struct {
	dir        string
	tree       string
	terraform  string
	cliConfig  string
	credential *syscall.Credential
}

// nobody is an ordinary user on any Debian-like machine.
const nobody = 65534

func newRoot(t *testing.T, ordinaryUser bool) *root {
	t.Helper()
	tree, err := deployment.Root()
	if err != nil {
		t.Fatal(err)
	}
	r := &root{dir: t.TempDir(), tree: tree}
	r.terraform = script(t, tree, "find-terraform.sh")
	r.cliConfig = script(t, tree, "install-provider.sh")
	if ordinaryUser && os.Getuid() == 0 {
		r.credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		r.private(t)
	}
	return r
}

// private copies what the ordinary user needs to a place that it can reach.
func (r *root) private(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "clearwater-user") //nolint:usetesting // the other user cannot reach the test's own folder
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for _, cmd := range [][]string{
		{"cp", "-r", filepath.Join(r.tree, "build/terraform/mirror"), dir},
		{"cp", r.terraform, filepath.Join(dir, "terraform")},
	} {
		if out, err := exec.CommandContext(t.Context(), cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd, err, out)
		}
	}
	text, err := os.ReadFile(r.cliConfig)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.ReplaceAll(text, []byte(filepath.Join(r.tree, "build/terraform/mirror")), []byte(filepath.Join(dir, "mirror")))
	r.cliConfig = filepath.Join(dir, "cli.tfrc")
	if err := os.WriteFile(r.cliConfig, text, 0o644); err != nil {
		t.Fatal(err)
	}
	r.terraform, r.dir = filepath.Join(dir, "terraform"), filepath.Join(dir, "root")
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, r.dir} {
		if err := os.Chown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
}

func script(t *testing.T, tree, name string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(tree, "scripts", name))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return strings.TrimSpace(string(out))
}

// write replaces the root's configuration and initialises it.
func (r *root) write(t *testing.T, text string) {
	t.Helper()
	const head = `
terraform {
  required_providers {
    clearwater = { source = "clearwater-ims/clearwater" }
  }
}
`
	if err := os.WriteFile(filepath.Join(r.dir, "main.tf"), []byte(head+text), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, ".terraform")); err == nil {
		return
	}
	if out, err := r.run(t, "init", "-input=false"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func (r *root) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute) // it also runs in clean-ups
	defer cancel()
	cmd := exec.CommandContext(ctx, r.terraform, append(args, "-no-color")...)
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "TF_CLI_CONFIG_FILE=" + r.cliConfig, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1"}
	cmd.WaitDelay = 10 * time.Second
	if r.credential != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.credential}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r *root) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := r.run(t, args...)
	if err != nil {
		t.Fatalf("terraform %v: %v\n%s", args, err, out)
	}
	return out
}
