package bootdata

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

var update = flag.Bool("update", false, "rewrite golden files")

func site() Site {
	return Site{Name: "site1", Engine: "embedded", UserSettings: map[string]string{"log_level": "4", "upstream_connections": "10"},
		Deployment: platform.Deployment{ID: "d1", Name: "lab", HomeDomain: "ims.example.com", CACertificate: "PEM\n", DNSServer: "127.70.1.2:10053",
			Ports: platform.Ports{DNS: 10053, PortalHTTP: 8080, PortalHTTPS: 8443}}}
}

func TestLocalConfigOfEveryRole(t *testing.T) {
	for i, role := range config.Roles() {
		files, err := Files(Node{Name: string(role) + "-2.site1", Role: role, Index: 2, Address: netip.AddrFrom4([4]byte{127, 70, 1, byte(10 + i)}),
			Incarnation: "i1", JoinToken: "token"}, site())
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", string(role)+".local_config")
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(files[config.LocalFile]), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != files[config.LocalFile] {
			t.Errorf("%s differs; run with -update and read the difference. Got:\n%s", path, files[config.LocalFile])
		}
		if files[config.UserFile] != "log_level=4\nupstream_connections=10\n" || files[CAFile] != "PEM\n" {
			t.Errorf("user_settings %q, CA %q", files[config.UserFile], files[CAFile])
		}
		o, _, err := config.Parse(config.File{Name: config.LocalFile, Path: "l", Text: files[config.LocalFile]})
		if err != nil || o.Role != role || o.NodeIndex != 2 || o.JoinToken != "token" || o.SignalingDNS[0] != "127.70.1.2:10053" || o.PortalHTTP != 8080 {
			t.Errorf("read back: %+v, %v", o, err)
		}
	}
}

func TestWhatANodeWouldRefuseIsNotRendered(t *testing.T) {
	s := site()
	s.UserSettings = map[string]string{"log_level": "9"}
	_, err := Files(Node{Name: "edge-1.site1", Role: config.Edge, Index: 1, Address: netip.MustParseAddr("127.70.1.10")}, s)
	if err == nil || !strings.Contains(err.Error(), "log_level") || !strings.Contains(err.Error(), "from 1 to 5") {
		t.Errorf("got %v", err)
	}
}
