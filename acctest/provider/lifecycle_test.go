package provider

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
)

func TestApplyChangeImportDestroy(t *testing.T) {
	d := deployment.Up(t, "acc-lifecycle", small())
	emptyPlan(t, d)
	noSecretInState(t, d)

	if err := d.Apply(t.Context(), map[string]any{"counts": map[string]int{"router": 3, "edge": 2, "diameter": 2}, "numbers": map[string]any{"start": "6505550000", "count": 500}}); err != nil {
		t.Fatal(err)
	}
	if len(d.Nodes) != 10 || len(d.Proxies) != 2 {
		t.Errorf("nodes %v, proxies %v", d.Nodes, d.Proxies)
	}
	emptyPlan(t, d)
	if err := d.Apply(t.Context(), map[string]any{"counts": map[string]int{"router": 1, "edge": 0, "xdms": 2}}); err != nil {
		t.Fatal(err)
	}
	if len(d.Nodes) != 6 || len(d.Proxies) != 0 {
		t.Errorf("nodes %v, proxies %v", d.Nodes, d.Proxies)
	}
	emptyPlan(t, d)
	imports(t, d)
	leavesNothing(t, d)
}

func noSecretInState(t *testing.T, d *deployment.Deployment) {
	t.Helper()
	state, err := os.ReadFile(filepath.Join(d.Folder(), "../../terraform", d.Env, "terraform.tfstate"))
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{"phone-a-secret", "phone-b-secret", "PRIVATE KEY"}
	for _, file := range d.Secrets {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if info, _ := os.Stat(file); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", file, info.Mode())
		}
		secrets = append(secrets, string(text))
	}
	for _, secret := range secrets {
		if strings.Contains(string(state), secret) {
			t.Errorf("the state holds a secret, %.8s...", secret)
		}
	}
}

// imports forgets every resource and takes it over again: nothing may be made anew, and no node may restart.
func imports(t *testing.T, d *deployment.Deployment) {
	t.Helper()
	router := pid(t, d.Folder(), "router-1.site1")
	for address, id := range map[string]string{
		"clearwater_deployment.this":               d.Env,
		"clearwater_network.this":                  d.Env + "/core",
		"clearwater_site.this":                     d.Env + "/site1",
		"clearwater_tier.store":                    d.Env + "/site1/store",
		"clearwater_tier.router":                   d.Env + "/site1/router",
		"clearwater_tier.xdms":                     d.Env + "/site1/xdms",
		"clearwater_shared_config.this":            d.Env + "/site1",
		"clearwater_number_block.this[0]":          d.Env + "/site1/6505550000",
		`clearwater_subscriber.this["6505550800"]`: d.Env + "/site1/sip:6505550800@" + d.Domain,
	} {
		before := stateOf(t, d, address)
		if out, err := d.Terraform(t.Context(), "state", "rm", address); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if out, err := d.Terraform(t.Context(), "import", append(variables(d), address, id)...); err != nil {
			t.Fatalf("importing %s: %v\n%s", address, err, out)
		}
		after := stateOf(t, d, address)
		for name, value := range before {
			switch name {
			case "image", "drain_timeout", "after", "password_wo_version", "timeouts", "user_settings":
				continue // only the configuration knows these
			}
			if !equal(value, after[name]) {
				t.Errorf("%s: %s was %v, imported as %v", address, name, value, after[name])
			}
		}
	}
	out, err := d.Terraform(t.Context(), "plan", variables(d)...)
	if err != nil || !strings.Contains(out, "0 to add") || !strings.Contains(out, "0 to destroy") {
		t.Errorf("after the import the plan is %v\n%s", err, out)
	}
	if err := d.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	emptyPlan(t, d)
	if now := pid(t, d.Folder(), "router-1.site1"); now != router {
		t.Errorf("the router restarted: pid %d, was %d", now, router)
	}
}

func TestEnvironmentsLiveSideBySide(t *testing.T) {
	few := small()
	few["counts"] = map[string]int{"router": 0, "edge": 0, "portal": 0}
	a := deployment.Up(t, "acc-side-a", few)
	b := deployment.Up(t, "acc-side-b", few)
	if a.Network() == b.Network() {
		t.Errorf("both have %s", a.Network())
	}
	leavesNothing(t, a)
	emptyPlan(t, b)
	leavesNothing(t, b)
}

func TestNewImageRollsTheTier(t *testing.T) {
	vars := small()
	vars["counts"] = map[string]int{"router": 0, "edge": 0, "portal": 0, "xdms": 2}
	images := filepath.Join(t.TempDir(), "images")
	if err := errors.Join(os.Mkdir(images, 0o755), copyImages(vars["image"].(string), images)); err != nil {
		t.Fatal(err)
	}
	vars["image"] = images
	d := deployment.Up(t, "acc-roll", vars)
	emptyPlan(t, d)
	store, xdms := pid(t, d.Folder(), "store-1.site1"), pid(t, d.Folder(), "xdms-2.site1")
	binary, err := os.OpenFile(filepath.Join(images, "xdms"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := binary.WriteString("another build"); err != nil {
		t.Fatal(err)
	}
	if err := binary.Close(); err != nil {
		t.Fatal(err)
	}
	if out := changes(t, d); !strings.Contains(out, "1 to change") {
		t.Errorf("only xdms has a new image:\n%s", out)
	}
	if err := d.Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	emptyPlan(t, d)
	if now := pid(t, d.Folder(), "xdms-2.site1"); now == 0 || now == xdms {
		t.Errorf("xdms was not restarted: pid %d, was %d", now, xdms)
	}
	if now := pid(t, d.Folder(), "store-1.site1"); now != store {
		t.Errorf("the store was restarted: pid %d, was %d", now, store)
	}
	if len(processes(t, d.Folder())) != 6 { // supervisor, store and its etcd, diameter, two xdms
		t.Errorf("the spare node is left: %v", processes(t, d.Folder()))
	}
	if err := os.RemoveAll(images); err != nil { // neither a plan nor a destroy may need it
		t.Fatal(err)
	}
	emptyPlan(t, d)
	leavesNothing(t, d)
}
