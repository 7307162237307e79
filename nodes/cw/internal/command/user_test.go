package command_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/api/portal"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
)

func TestUsers(t *testing.T) {
	w := newWorld(t)
	hs := []string{"--hsprov", w.hsAddress}
	with := func(args ...string) []string { return append(append([]string{"user"}, args...), hs...) }
	out := w.must(t, "Created user sip:6505550001@example.com", with("create", "6505550001..6505550003", "example.com", "secret")...)
	if strings.Count(out, "Created user") != 3 {
		t.Errorf("output %q", out)
	}
	w.fails(t, 1, "exists already", "", with("create", "6505550001", "example.com", "secret")...)
	w.fails(t, 1, "1 of 2 failed", "", with("create", "-k", "6505550003..6505550004", "example.com", "secret")...)
	out = w.must(t, "HA1 digest: "+provisioning.HA1("6505550001@example.com", "example.com", "secret"), with("display", "6505550001", "example.com")...)
	if !strings.Contains(out, "mmtel.example.com") {
		t.Errorf("no filter criteria: %q", out)
	}
	if out = w.must(t, "Private user identities: 6505550001@example.com", with("display", "-s", "6505550001", "example.com")...); strings.Contains(out, "HA1") {
		t.Errorf("short display: %q", out)
	}
	w.must(t, "Password: changed", with("update", "6505550001", "example.com", "--password", "changed", "--plaintext")...)
	ifc := filepath.Join(t.TempDir(), "ifc.xml")
	if err := os.WriteFile(ifc, []byte("<ServiceProfile><X>{prefix}{dn}@{domain}</X></ServiceProfile>"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.must(t, "<X>1116505550001@example.com</X>", with("update", "6505550001", "example.com", "--ifc", ifc, "--prefix", "111")...)
	if code, out, _ := w.run(t, "typed\n", with("update", "-q", "--prompt", "6505550002", "example.com")...); code != 0 || strings.Contains(out, "HA1") {
		t.Errorf("prompt: %d %q", code, out)
	}
	w.must(t, "HA1 digest: "+provisioning.HA1("6505550002@example.com", "example.com", "typed"), with("display", "6505550002", "example.com")...)
	if out = w.must(t, "", with("list")...); len(strings.Fields(out)) != 4 || !strings.HasPrefix(out, "sip:6505550001@example.com\n") {
		t.Errorf("list: %q", out)
	}
	if out = w.must(t, "", with("list", "--full", "--pace", "1000", "-f")...); strings.Count(out, "Realm: example.com") != 4 {
		t.Errorf("full list: %q", out)
	}
	w.fails(t, 1, "nothing was listed", "n\n", with("list", "--pace", "501")...)
	w.must(t, "Deleted user", with("delete", "6505550001..6505550003", "example.com")...)
	w.fails(t, 1, "404", "", with("delete", "6505550001", "example.com")...)
	if code, _, errs := w.run(t, "", with("delete", "-f", "-q", "6505550003..6505550004", "example.com")...); code != 1 || errs != "" {
		t.Errorf("forced and quiet: %d %q", code, errs)
	}
	if privates, sets := w.hs.Counts(); privates+sets != 0 {
		t.Errorf("left behind: %d privates, %d sets", privates, sets)
	}
	w.fails(t, 1, "404", "", with("display", "6505550001", "example.com")...)
}

func TestUserUsage(t *testing.T) {
	w := newWorld(t)
	for _, args := range [][]string{
		{"create", "5..1", "example.com", "x"}, {"create", "1..22", "example.com", "x"}, {"create", "a b", "example.com", "x"},
		{"create", "1..a", "example.com", "x"}, {"create", "1", "exa mple", "x"}, {"create", "1"}, {"create", "1", "example.com", ""},
		{"create", "0..9999999", "example.com", "x"}, {"update", "1", "example.com"}, {"update", "1", "example.com", "--ifc", "f", "--plaintext"},
		{"delete", "1"}, {"list", "extra"}, {"list", "--pace", "-1"},
	} {
		w.fails(t, 2, "cw:", "", append(append([]string{"user"}, args...), "--hsprov", w.hsAddress)...)
	}
	w.fails(t, 1, "no password", "", "user", "create", "1", "example.com", "--hsprov", w.hsAddress)
	w.fails(t, 1, "connect", "", "user", "list", "--hsprov", "127.24.5.99:1")
}

const cardK, cardOPc = "465b5ce8b199b49faa5f0a2ee238a6bc", "cd63cb71954a9f4e48a5994e37a02baf"

func TestUserWithACard(t *testing.T) {
	w := newWorld(t)
	with := func(args ...string) []string {
		return append(append([]string{"user"}, args...), "--hsprov", w.hsAddress)
	}
	w.must(t, "Created user", with("create", "1", "example.com", "--aka-k", cardK, "--aka-opc", cardOPc, "--aka-amf", "b9b9")...)
	if out := w.must(t, "AKA: yes", with("display", "1", "example.com")...); strings.Contains(out, cardK) || strings.Contains(out, cardOPc) || !strings.Contains(out, "HA1 digest: -") {
		t.Errorf("shown: %q", out)
	}
	w.must(t, "HA1 digest: "+provisioning.HA1("1@example.com", "example.com", "secret"), with("update", "1", "example.com", "--password", "secret")...)
	w.must(t, "Created user", with("create", "2", "example.com", "secret")...)
	w.must(t, "AKA: yes", with("update", "2", "example.com", "--aka-k", cardK, "--aka-op", cardOPc)...)
	for _, args := range [][]string{
		{"create", "3", "example.com", "--aka-k", cardK}, {"create", "3", "example.com", "--aka-opc", cardOPc}, {"create", "3", "example.com", "--aka-k", "12", "--aka-opc", cardOPc},
		{"create", "3", "example.com", "--aka-k", cardK, "--aka-opc", cardOPc, "--aka-op", cardOPc}, {"create", "3..4", "example.com", "--aka-k", cardK, "--aka-opc", cardOPc},
		{"create", "3", "example.com", "--aka-k", cardK, "--aka-opc", cardOPc, "--aka-amf", "8"}, {"create", "3", "example.com", "--plaintext", "--aka-k", cardK, "--aka-opc", cardOPc},
		{"update", "1", "example.com", "--aka-amf", "8000"},
	} {
		w.fails(t, 2, "cw:", "", with(args...)...)
	}
}

// The provisioning API is found through the shared configuration when --hsprov is not given.
func TestUserFindsProvisioningAPI(t *testing.T) {
	w := newWorld(t)
	w.change("shared_config", "home_domain=example.com\nhs_provisioning_hostname="+w.hsAddress+"\n")
	w.must(t, "Created user", "user", "create", "1", "example.com", "secret")
}

func TestNumbers(t *testing.T) {
	w := newWorld(t)
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.URL.Path+" "+r.Header.Get("NGV-API-Key"))
		var b portal.NumberBlock
		switch {
		case r.Method == http.MethodPut:
			_ = json.NewDecoder(r.Body).Decode(&b)
			b.Message = "Created 1000 numbers, 0 already present"
		case r.URL.Path == "/number-blocks":
			_, _ = rw.Write([]byte(`{"number_blocks":[{"start":"650","count":3}]}`))
			return
		default:
			b = portal.NumberBlock{Start: "650", Count: 3, Free: 2, InUse: 1}
		}
		_ = json.NewEncoder(rw).Encode(b)
	}))
	defer server.Close()
	if out := w.must(t, "", "numbers", "create", "--start", "6505550000", "--count", "1000", "--portal", server.URL); out != "Created 1000 numbers, 0 already present\n" {
		t.Errorf("output %q", out)
	}
	if len(got) != 1 || got[0] != "PUT /number-blocks/6505550000 key" {
		t.Errorf("requests %q", got)
	}
	w.must(t, "650", "numbers", "list", "--portal", server.URL)
	w.must(t, "Deleted block 650", "numbers", "delete", "650", "--portal", server.URL, "--api-key", "x")
	w.fails(t, 2, "--start", "", "numbers", "create")
}
