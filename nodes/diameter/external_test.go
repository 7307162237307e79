package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/service/servicetest"
)

// tool finds a program that scripts/need.sh makes available.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: scripts/need.sh %s makes it available", err, name)
	}
	return path
}

// run starts a program that ends with the test, or with stop, and waits for a line that begins with ready, if it is given.
func run(t *testing.T, ready, name string, args ...string) (stop func()) {
	t.Helper()
	cmd := exec.Command(name, args...) //nolint:gosec,noctx // the test's own
	cmd.WaitDelay = time.Second
	if _, err := cmd.StdinPipe(); err != nil { // it stays open
		t.Fatal(err)
	}
	out := &watched{want: ready, seen: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("%s:\n%s", name, out.String())
		}
	})
	if ready != "" {
		select {
		case <-out.seen:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s does not say %q:\n%s", name, ready, out.String())
		}
	}
	return stop
}

// watched keeps output and tells when it holds a text.
type watched struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	want string
	seen chan struct{}
	told bool
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buf.Len() < 1<<20 {
		w.buf.Write(p)
	}
	if !w.told && strings.Contains(w.buf.String(), w.want) {
		w.told = true
		close(w.seen)
	}
	return len(p), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// foreign is the HSS of testdata/hss.py.
type foreign struct {
	t       *testing.T
	control string
	conf    []byte
	stop    func()
}

const foreignProfile = `<?xml version="1.0"?><IMSSubscription><PrivateID>%[1]s@hss.test</PrivateID><ServiceProfile><PublicIdentity><Identity>sip:%[1]s@hss.test</Identity></PublicIdentity>` +
	`<PublicIdentity><Identity>tel:+1555%[1]s</Identity></PublicIdentity></ServiceProfile></IMSSubscription>`

func startForeign(t *testing.T, ip string, peers ...string) *foreign {
	t.Helper()
	var subscribers []map[string]any
	for _, n := range []string{"1001", "1002", "1003", "1004"} {
		subscribers = append(subscribers, map[string]any{"impi": n + "@hss.test", "password": "secret" + n, "impus": []string{"sip:" + n + "@hss.test", "tel:+1555" + n}, "profile": fmt.Sprintf(foreignProfile, n)})
	}
	conf, err := json.Marshal(map[string]any{"ip": ip, "port": 3868, "host": "hss1.hss.test", "realm": "hss.test", "peers": peers, "control": 8868, "subscribers": subscribers})
	if err != nil {
		t.Fatal(err)
	}
	f := &foreign{t: t, control: "http://" + ip + ":8868", conf: conf}
	f.start()
	return f
}

func (f *foreign) start() {
	f.stop = run(f.t, "ready", tool(f.t, "python-diameter"), "testdata/hss.py", string(f.conf))
}

func (f *foreign) ask(method, path string, q any, into any) {
	f.t.Helper()
	body, err := json.Marshal(q)
	if err != nil {
		f.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.control+path, bytes.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		f.t.Fatal(err)
	}
}

func (f *foreign) mode(m map[string]any) { f.ask(http.MethodPost, "/mode", m, &struct{}{}) }

// send has the HSS send a request; a negative result is an experimental one.
func (f *foreign) send(q map[string]any) int {
	var answer struct{ Result int }
	q["realm"] = "example.com"
	f.ask(http.MethodPost, "/send", q, &answer)
	return answer.Result
}

type entry struct {
	Command, IMPI, IMPU, Server, Host string
	Type                              *int
	Route                             []string
}

// log is what the HSS was asked since the last time.
func (f *foreign) log() (out []entry) {
	var answer struct{ Log []entry }
	f.ask(http.MethodGet, "/log", nil, &answer)
	return answer.Log
}

func commands(log []entry) string {
	var out []string
	for _, e := range log {
		if e.Type != nil {
			e.Command += fmt.Sprint(*e.Type)
		}
		out = append(out, e.Command)
	}
	return strings.Join(out, " ")
}

// selfSigned makes a certificate, which freeDiameter wants to have even if it never uses it.
func selfSigned(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, DNSNames: []string{name}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// relayPort is one of its own, since freeDiameter takes no loopback address to listen on.
const relayPort = 23868

// relay starts freeDiameter between the gateways and the HSS.
func relay(t *testing.T, hssIP string, gateways ...string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, key := selfSigned(t, "dra.example.com")
	acl := "ALLOW_IPSEC"
	for _, g := range gateways {
		acl += " " + g
	}
	conf := fmt.Sprintf(`Identity = "dra.example.com";
Realm = "example.com";
Port = %d;
SecPort = 0;
No_SCTP;
No_IPv6;
TLS_Cred = "%s", "%s";
TLS_CA = "%s";
LoadExtension = "acl_wl.fdx" : "%s";
ConnectPeer = "hss1.hss.test" { ConnectTo = "%s"; Port = 3868; No_TLS; Realm = "hss.test"; };
`, relayPort, write("cert.pem", cert), write("key.pem", key), write("ca.pem", cert), write("acl.conf", acl+"\n"), hssIP)
	run(t, "STATE_OPEN", tool(t, "freeDiameterd"), "-c", write("freeDiameter.conf", conf))
}

// router is who is told of RTR and PPR.
type toldRouter struct {
	mu   sync.Mutex
	told []string
}

func startRouter(t *testing.T, addr string) *toldRouter {
	t.Helper()
	r := &toldRouter{}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		text, _ := io.ReadAll(q.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.told = append(r.told, q.Method+" "+q.URL.RequestURI()+" "+string(text))
	})}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	return r
}

func (r *toldRouter) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := strings.Join(r.told, "\n")
	r.told = nil
	return out
}

// capture writes what is on the wire until check is called, which has tshark read it: every message must be known and
// well-formed.
func capture(t *testing.T, filter string) (check func(atLeast int)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cx.pcap")
	tshark := tool(t, "tshark")
	cmd := exec.Command(tshark, "-i", "lo", "-f", filter, "-w", file, "-q") //nolint:gosec,noctx // the test's own
	cmd.WaitDelay = time.Second
	out := &watched{want: "Capturing on", seen: make(chan struct{})}
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	select {
	case <-out.seen:
	case <-time.After(20 * time.Second):
		t.Fatalf("tshark: %s", out.String())
	}
	return func(atLeast int) {
		t.Helper()
		read := func(filter string) []string {
			text, err := exec.Command(tshark, "-r", file, "-d", fmt.Sprintf("tcp.port==%d,diameter", relayPort), "-Y", filter, "-T", "fields", "-e", "frame.number", "-e", "diameter.cmd.code", "-e", "_ws.expert.message").Output() //nolint:gosec,noctx // as above
			if err != nil && len(text) == 0 {
				t.Fatalf("tshark: %v", err)
			}
			return strings.Fields(strings.ReplaceAll(strings.TrimSpace(string(text)), "\t", "_"))
		}
		deadline := time.Now().Add(10 * time.Second)
		for len(read("diameter")) < atLeast && time.Now().Before(deadline) {
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // packets reach the file later
		}
		_ = cmd.Process.Signal(os.Interrupt)
		<-done
		if got := read("diameter"); len(got) < atLeast {
			t.Errorf("%d Diameter packets were captured, want %d", len(got), atLeast)
		}
		if bad := read("_ws.malformed || (diameter && _ws.expert.severity == error)"); len(bad) > 0 {
			t.Errorf("malformed: %v", bad)
		}
	}
}

// TestExternalHSS runs two gateway nodes against an HSS on another stack, directly and through freeDiameter.
func TestExternalHSS(t *testing.T) {
	for i, through := range []string{"directly", "through freeDiameter"} {
		t.Run(through, func(t *testing.T) {
			t.Parallel()
			externalHSS(t, fmt.Sprintf("127.38.%d.", 10+i), i == 1)
		})
	}
}

func externalHSS(t *testing.T, network string, relayed bool) { //nolint:funlen // one story
	s := servicetest.NewSite(t, network+"1")
	startStore(t, s)
	routers := startRouter(t, network+"6:9888")
	check := capture(t, fmt.Sprintf("(tcp port 3868 or tcp port %d) and net %s0/24", relayPort, network))
	const a, b = "gw-a.example.com", "gw-b.example.com"
	peers, at, port := []string{a, b}, network+"7", 3868
	if relayed {
		peers, at, port = []string{"dra.example.com"}, network+"8", relayPort
	}
	far := startForeign(t, network+"7", peers...)
	if relayed {
		relay(t, network+"7", a, b)
	}
	var nodes []*hss.Client
	for i, name := range []string{a, b} {
		ip := fmt.Sprintf("%s%d", network, 2+i)
		shared := "home_domain=example.com\nhss_realm=hss.test\nhss_hostname=hss1.hss.test\nforce_hss_peer=" + at + "\nhss_port=" + strconv.Itoa(port) + "\nhs_diameteridentity=" + name +
			"\nsprout_chronos_callback_uri=" + network + "6:9888\ndiameter_timeout_ms=1000\nsprout_hostname=router.example.com\nhss_negative_cache_ttl=0\n"
		servicetest.Start(t, "DIAMETER_TEST_NODE=1", "--config-dir", s.Folder(t, config.Diameter, ip, shared))
		ready(t, ip)
		nodes = append(nodes, router(t, s, "router", ip))
	}
	first, second := nodes[0], nodes[1]

	// Registration: UAR, MAR, SAR; then the other node knows it too.
	resp := eventually(t, first, "1001")
	if d := resp.GetDigest(); d.GetHa1() != provisioning.HA1("1001@hss.test", "hss.test", "secret1001") || d.GetRealm() != "hss.test" || resp.GetResultCode() != hss.FirstRegistration || resp.GetRegData() != nil {
		t.Errorf("first answer: %v", resp)
	}
	assigned := assign(t, first, hss.Reg, "1001")
	if d := assigned.GetRegData(); d.GetState() != hss.Registered || !strings.Contains(d.GetImsSubscription(), "tel:+15551001") || len(d.GetCcfs()) != 1 {
		t.Fatalf("assignment: %v", assigned)
	}
	log := far.log()
	if got := commands(log[len(log)-3:]); got != "UAR MAR SAR1" {
		t.Errorf("the HSS was asked %q", got)
	}
	if relayed != (len(log[0].Route) > 0 && log[0].Route[0] == a) {
		t.Errorf("Route-Record %v", log[0].Route)
	}
	if again := eventually(t, second, "1001"); again.GetRegData().GetState() != hss.Registered || again.GetResultCode() != hss.SubsequentRegistration || again.GetServerName() != "sip:scscf.router.example.com;transport=TCP" {
		t.Errorf("on the other node: %v", again)
	}
	if got := commands(far.log()); !strings.HasSuffix(got, "UAR MAR") || strings.Contains(got, "SAR") {
		t.Errorf("the HSS was asked %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for impu, want := range map[string]int32{"sip:1001@hss.test": hss.FirstRegistration, "sip:1002@hss.test": hss.UnregisteredService} {
		if l, err := second.Locate(ctx, &hss.LocateRequest{Impu: impu}); err != nil || l.GetResultCode() != want {
			t.Errorf("location of %s: %v, %v", impu, l, err)
		}
	}
	if call := assign(t, second, hss.Call, "1003"); call.GetRegData().GetState() != hss.Unregistered {
		t.Errorf("a call to who is not registered: %v", call)
	}
	if l, _ := first.Locate(ctx, &hss.LocateRequest{Impu: "sip:nobody@hss.test"}); l.GetResult() != hss.Result_RESULT_UNKNOWN {
		t.Errorf("an unknown user: %v", l)
	}

	// What the HSS wants of us, of whichever node.
	changed := strings.ReplaceAll(fmt.Sprintf(foreignProfile, "1001"), "tel:+15551001", "tel:+19990000")
	if got := far.send(map[string]any{"command": "ppr", "impi": "1001@hss.test", "host": b, "profile": changed}); got != 2001 {
		t.Errorf("PPR is answered %d", got)
	}
	if told := routers.take(); !strings.HasPrefix(told, "PUT /registrations/sip:1001@hss.test ") || !strings.Contains(told, "+19990000") {
		t.Errorf("the router was told %q", told)
	}
	if now := eventually(t, first, "1001"); now.GetRegData().GetImsSubscription() != changed {
		t.Errorf("the pushed profile is not in force: %v", now)
	}
	if got := far.send(map[string]any{"command": "rtr", "impi": "nobody@hss.test", "host": a, "reason": 0}); got != -5001 {
		t.Errorf("RTR of an unknown user is answered %d", got)
	}
	if got := far.send(map[string]any{"command": "rtr", "impi": "1001@hss.test", "host": a, "reason": 0}); got != 2001 {
		t.Errorf("RTR is answered %d", got)
	}
	if told := routers.take(); told != `DELETE /registrations?send-notifications=true {"registrations":[{"primary-impu":"sip:1001@hss.test","impi":"1001@hss.test"}]}` {
		t.Errorf("the router was told %q", told)
	}
	if after := eventually(t, second, "1001"); after.GetRegData() != nil {
		t.Errorf("still known after the RTR: %v", after)
	}
	check(25)
	misbehave(t, far, first, relayed)
	if !relayed {
		outage(t, far, first)
	}
}

// misbehave lets the HSS do what it should not; it is an outage for the user, and none that lasts. What ends the HSS's
// connection shows through a relay only how long that one takes to connect again.
func misbehave(t *testing.T, far *foreign, node *hss.Client, relayed bool) {
	t.Helper()
	for name, mode := range map[string]map[string]any{
		"slow": {"delay": 1.5}, "silent": {"drop": true}, "too busy": {"result": 3004}, "unable to comply": {"result": 5012}, "unable to deliver": {"result": 3002},
		"wrong realm": {"result": 3003}, "transient": {"result": 4002}, "truncated": {"truncate": true}, "disconnects": {"disconnect": true},
	} {
		if relayed && (name == "truncated" || name == "disconnects") {
			continue
		}
		far.mode(mode)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		resp, err := node.Authorize(ctx, question("1004"))
		cancel()
		if err != nil || (resp.GetResult() != hss.Result_RESULT_UNAVAILABLE && resp.GetResult() != hss.Result_RESULT_TIMEOUT) {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
		far.mode(nil)
		began := time.Now()
		eventually(t, node, "1004")
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("%s: service again after %v", name, took)
		}
	}
}

// outage takes the HSS away: who is registered keeps service, others are told that there is none, and 5 s after its return
// all have it.
func outage(t *testing.T, far *foreign, node *hss.Client) {
	t.Helper()
	eventually(t, node, "1002")
	assign(t, node, hss.Reg, "1002")
	far.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for range 5 {
		resp, err := node.Authorize(ctx, question("1002"))
		if err != nil || resp.GetResult() != hss.Result_RESULT_OK || resp.GetRegData().GetState() != hss.Registered || resp.GetDigest() == nil {
			t.Errorf("who is registered: %v, %v", resp, err)
		}
		if resp, err := node.Authorize(ctx, question("1004")); err != nil || (resp.GetResult() != hss.Result_RESULT_UNAVAILABLE && resp.GetResult() != hss.Result_RESULT_TIMEOUT) {
			t.Errorf("who is not: %v, %v", resp, err)
		}
	}
	far.start()
	began := time.Now()
	eventually(t, node, "1004")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("service again after %v", took)
	}
}

func question(n string) *hss.AuthorizeRequest {
	return &hss.AuthorizeRequest{Impi: n + "@hss.test", Impu: "sip:" + n + "@hss.test", VisitedNetwork: "example.com", AuthType: "REG", WantVector: true, WantProfile: true}
}

// eventually asks until the HSS answers, which it may not while connections come about.
func eventually(t *testing.T, node *hss.Client, n string) *hss.AuthorizeResponse {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		resp, err := node.Authorize(ctx, question(n))
		cancel()
		if err == nil && resp.GetResult() == hss.Result_RESULT_OK {
			return resp
		}
		if time.Now().After(deadline) {
			t.Fatalf("no service for %s: %v, %v", n, resp, err)
		}
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // polling, with a deadline
	}
}

func assign(t *testing.T, node *hss.Client, reqtype, n string) *hss.AssignResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	resp, err := node.Assign(ctx, &hss.AssignRequest{Impi: n + "@hss.test", Impu: "sip:" + n + "@hss.test", Reqtype: reqtype})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}
