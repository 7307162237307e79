package command_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
)

// An operator who holds the CA of the secret store makes himself a certificate and enters with it.
func TestAccessCreate(t *testing.T) {
	w := newWorld(t)
	w.cluster = management.Cluster{ID: "abc", Healthy: true}
	secret := filepath.Join(t.TempDir(), "ca")
	key, err := w.ca.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, append(w.ca.CertificatePEM(), key...), 0o600); err != nil {
		t.Fatal(err)
	}
	w.must(t, "--deployment", "access", "create", "--ca", secret, "--zone", "ims.test", "--dns", w.dns)
	w.must(t, "abc", "--deployment", filepath.Join(w.home, ".clearwater"), "cluster", "state")
	w.fails(t, 2, "--ca and --zone", "", "access", "create")
	w.fails(t, 1, "no such file", "", "access", "create", "--ca", secret+"x", "--zone", "z")
	if err := os.WriteFile(secret, w.ca.CertificatePEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	w.fails(t, 1, "no private key", "", "access", "create", "--ca", secret, "--zone", "z")
}

// A certificate of another deployment does not let anybody in.
func TestStrangerIsRefused(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	other.port = w.port
	code, _, errs := other.run(t, "", "config", "list")
	if code != 1 || errs == "" {
		t.Errorf("exit code %d, errors %q", code, errs)
	}
}
