package operator_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/operator"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

func TestWriteAndLoad(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "operator")
	ca, err := pki.NewDeploymentCA("test")
	if err != nil {
		t.Fatal(err)
	}
	chain, key, err := ca.Issue(pki.Subject{Name: "operator", Role: pki.RoleOperator}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	want := operator.Access{Zone: "ims.test", Site: "site1", DNS: []string{"127.0.0.2:53", "127.0.0.3"}, PortalHTTPPort: 8080}
	for range 2 { // a second apply replaces the files
		if err := operator.Write(folder, want, ca.CertificatePEM(), chain, key); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(folder, "operator.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v", info, err)
	}
	for _, path := range []string{folder, filepath.Join(folder, operator.File)} {
		got, err := operator.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if got.StoreHost() != "store.site1.ims.test" || got.PortalURL("") != "http://portal.ims.test:8080" || len(got.DNS) != 2 {
			t.Errorf("%s: %+v", path, got)
		}
		if _, err := got.TLS(config.Store); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 4 {
		t.Errorf("%d files are left in the folder: %v", len(entries), err)
	}
}

func TestLoadRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), operator.File)
	good := `"ca":"a","certificate":"b","key":"c"`
	for name, c := range map[string]struct{ text, says string }{
		"not JSON":   {"zone", "invalid character"},
		"unknown":    {`{"zone":"z","site":"s",` + good + `,"colour":1}`, "colour"},
		"no zone":    {`{"site":"s",` + good + `}`, "zone and site"},
		"no key":     {`{"zone":"z","site":"s","ca":"a","certificate":"b"}`, "must be set"},
		"bad server": {`{"zone":"z","site":"s","dns":["localhost"],` + good + `}`, "localhost"},
		"bad port":   {`{"zone":"z","site":"s","portal_http_port":70000,` + good + `}`, "70000"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := operator.Load(path); err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOfNode(t *testing.T) {
	folder := t.TempDir()
	local := "local_ip=127.0.0.9\npublic_ip=127.0.0.9\npublic_hostname=n\nnode_role=store\ndeployment_id=d\nlocal_site_name=site2\ndns_zone=ims.test\ndata_directory=../data\n"
	if err := os.WriteFile(filepath.Join(folder, config.LocalFile), []byte(local), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := operator.OfNode(folder)
	if err != nil {
		t.Fatal(err)
	}
	if a.Site != "site2" || a.CA != filepath.Join(folder, "ca.pem") || a.Key != filepath.Join(filepath.Dir(folder), "data", "pki", "node.key") {
		t.Errorf("got %+v", a)
	}
}
