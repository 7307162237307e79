package provider

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A Terraform that is not there or too old is named, and nothing is built behind the user's back.
func TestUnusableTerraformIsNamed(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(t.TempDir(), "terraform")
	if err := os.WriteFile(old, []byte("#!/bin/sh\necho Terraform v1.5.7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for choice, want := range map[string]string{"/nowhere/terraform": "is not there", old: "older than 1.11"} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(root, "scripts", "find-terraform.sh"))
		cmd.Env = append(os.Environ(), "TERRAFORM="+choice)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) || !strings.Contains(string(out), choice) {
			t.Errorf("%s: %v, %s; want an error that says %q", choice, err, out, want)
		}
	}
}
