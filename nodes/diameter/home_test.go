package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/service/servicetest"
)

// foreignCSCF is the S-CSCF of testdata/cscf.py.
type foreignCSCF struct {
	t     *testing.T
	in    io.Writer
	lines *bufio.Scanner
}

func startCSCF(t *testing.T, ip, hssIP string) *foreignCSCF {
	t.Helper()
	conf, err := json.Marshal(map[string]string{"host": "scscf.other.test", "realm": "other.test", "ip": ip, "hss": "hss.example.com", "hss_realm": "example.com", "hss_ip": hssIP})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool(t, "python-diameter"), "testdata/cscf.py", string(conf)) //nolint:gosec,noctx // the test's own
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	problems := &watched{seen: make(chan struct{})}
	cmd.Stderr = problems
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(problems.String())
		}
	})
	f := &foreignCSCF{t: t, in: in, lines: bufio.NewScanner(out)}
	f.lines.Buffer(nil, 1<<20)
	if !f.lines.Scan() || f.lines.Text() != "ready" {
		t.Fatalf("the S-CSCF does not start: %q %s", f.lines.Text(), problems.String())
	}
	return f
}

func (f *foreignCSCF) line(q any, into any) {
	f.t.Helper()
	text, err := json.Marshal(q)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.in.Write(append(text, '\n')); err != nil {
		f.t.Fatal(err)
	}
	if !f.lines.Scan() {
		f.t.Fatalf("the S-CSCF is gone: %v", f.lines.Err())
	}
	if err := json.Unmarshal(f.lines.Bytes(), into); err != nil {
		f.t.Fatal(err)
	}
}

// ask sends a request, and returns the result and the answer's AVPs as text.
func (f *foreignCSCF) ask(code int, avps ...any) (result int, all string) {
	f.t.Helper()
	var answer struct{ AVPs [][]any }
	f.line(map[string]any{"code": code, "avps": avps}, &answer)
	text, _ := json.Marshal(answer.AVPs)
	for _, a := range answer.AVPs {
		switch a[0] {
		case 268.0:
			result = int(a[2].(float64))
		case 297.0:
			for _, in := range a[2].([]any) {
				if one := in.([]any); one[0] == 298.0 {
					result = -int(one[2].(float64))
				}
			}
		}
	}
	return result, string(text)
}

// told are the requests of the HSS: command code, private identity, profile.
func (f *foreignCSCF) told(n int) (out [][]any) {
	for deadline := time.Now().Add(15 * time.Second); len(out) < n && time.Now().Before(deadline); {
		var answer struct{ Told [][]any }
		f.line(map[string]any{"told": true}, &answer)
		out = append(out, answer.Told...)
	}
	return out
}

func avp(code, vendor int, value any) []any { return []any{code, vendor, value} }

// TestForeignCSCF registers a user of ours at an S-CSCF of another core, on another stack, over Diameter; provisioning is
// pushed to it. tshark reads what went over the wire.
func TestForeignCSCF(t *testing.T) {
	t.Parallel()
	const tgpp = 10415
	s := servicetest.NewSite(t, "127.38.12.1")
	startStore(t, s)
	check := capture(t, "tcp port 3868 and net 127.38.12.0/24")
	servicetest.Start(t, "DIAMETER_TEST_NODE=1", "--config-dir", s.Folder(t, config.Diameter, "127.38.12.2", "home_domain=example.com\nhss_role=Y\nhs_diameteridentity=hss.example.com\ncdf_identity=ccf.example.com\n"))
	ready(t, "127.38.12.2")
	prov := provisioning.New(fmt.Sprintf("http://127.38.12.2:%d", config.PortProvisioning), http.DefaultClient)
	if err := prov.CreateSubscriber(t.Context(), provisioning.Subscriber{PublicIDs: []string{"sip:1@example.com"}, PrivateID: "1@example.com", Password: "secret"}); err != nil {
		t.Fatal(err)
	}
	far := startCSCF(t, "127.38.12.3", "127.38.12.2")
	who := []any{avp(1, 0, "1@example.com"), avp(601, tgpp, "sip:1@example.com")}
	with := func(more ...any) []any { return append(append([]any{}, who...), more...) }
	visited, name := avp(600, tgpp, "other.test"), avp(602, tgpp, "sip:scscf.other.test")

	if result, all := far.ask(300, with(visited, avp(623, tgpp, 0))...); result != -2001 || !strings.Contains(all, "[603,10415,[]]") {
		t.Errorf("first UAR: %d %s", result, all)
	}
	result, all := far.ask(303, with(avp(607, tgpp, 1), avp(612, tgpp, []any{avp(608, tgpp, "SIP Digest")}), name)...)
	if result != 2001 || !strings.Contains(all, provisioning.HA1("1@example.com", "example.com", "secret")) {
		t.Errorf("MAR: %d %s", result, all)
	}
	result, all = far.ask(301, with(name, avp(614, tgpp, 1), avp(624, tgpp, 0))...)
	if result != 2001 || !strings.Contains(all, "sip:1@example.com") || !strings.Contains(all, "aaa://ccf.example.com") {
		t.Errorf("SAR: %d %s", result, all)
	}
	if result, all := far.ask(302, avp(601, tgpp, "sip:1@example.com")); result != 2001 || !strings.Contains(all, "sip:scscf.other.test") {
		t.Errorf("LIR: %d %s", result, all)
	}
	if result, _ := far.ask(302, avp(601, tgpp, "sip:nobody@example.com")); result != -5001 {
		t.Errorf("LIR of nobody: %d", result)
	}
	if result, all := far.ask(300, with(avp(623, tgpp, 0))...); result != 5005 {
		t.Errorf("UAR without Visited-Network-Identifier: %d %s", result, all)
	}
	if err := prov.DeleteSubscriber(t.Context(), "sip:1@example.com", "1@example.com"); err != nil {
		t.Fatal(err)
	}
	told := far.told(1)
	if len(told) == 0 || told[len(told)-1][0] != 304.0 || told[len(told)-1][1] != "1@example.com" {
		t.Errorf("the S-CSCF was told %v, want an RTR at the end", told)
	}
	check(10)
}
