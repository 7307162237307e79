// Package browser tests phones that are web pages: JsSIP in headless Chromium, over WebSocket and secure WebSocket, with media
// through the TURN server of the edge.
package browser

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
)

var shared *deployment.Deployment //nolint:gochecknoglobals // of this test binary

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	vars := map[string]any{
		"counts":   map[string]int{"edge": 2},
		"settings": map[string]string{"turn_allowed_peers": "127.0.0.0/8"}, // on this platform every address is loopback
	}
	return deployment.Main(m, "browser", vars, func(d *deployment.Deployment) { shared = d })
}

// website serves the page of the phone.
func website(t *testing.T) string {
	t.Helper()
	root, err := deployment.Root()
	if err != nil {
		t.Fatal(err)
	}
	script := bundle(t, root)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /jssip.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write([]byte(script))
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "testdata/page.html") })
	listener, err := net.Listen("tcp4", shared.Network()+".200:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return "http://" + listener.Addr().String() + "/"
}

// person is a subscriber with a page.
type person struct {
	*page
	name, password, edge string
}

func (p *person) uri() string { return "sip:" + p.name + "@" + shared.Domain }

// join provisions a subscriber and registers with a page; media goes through the TURN server of the edge alone.
func join(t *testing.T, browser *chromium, site, name, scheme, edge, turn string) *person {
	t.Helper()
	p := &person{page: browser.page(site), name: name, password: "secret-" + name, edge: shared.Address(edge)}
	err := shared.Provisioning().CreateSubscriber(t.Context(), provisioning.Subscriber{
		PublicIDs: []string{p.uri()}, PrivateID: name + "@" + shared.Domain, Realm: shared.Domain, Password: p.password,
	})
	if err != nil {
		t.Fatal(err)
	}
	port := map[string]int{"ws": 5062, "wss": 5063}[scheme]
	config, _ := json.Marshal(map[string]string{"socket": fmt.Sprintf("%s://%s:%d", scheme, p.edge, port), "uri": p.uri(), "password": p.password, "user": name + "@" + shared.Domain})
	ice, _ := json.Marshal(map[string]any{"iceTransportPolicy": "relay", "iceServers": []any{map[string]any{
		"urls": []string{strings.ReplaceAll(turn, "EDGE", p.edge)}, "username": name + "@" + shared.Domain, "credential": p.password,
	}}})
	var status int
	p.must(fmt.Sprintf("start(%s, %s)", config, ice), &status)
	if status != 200 {
		t.Fatalf("%s registers with status %d", name, status)
	}
	return p
}

// media is what a page tells of its connection.
type media struct {
	Bytes, Energy               float64
	Local, Remote, Relay, State string
}

// TestPagesCallEachOther lets a page on WebSocket call one on secure WebSocket, at another edge. Both hear the other through
// relays of the TURN servers, over UDP at one and TCP at the other; the called one hangs up.
func TestPagesCallEachOther(t *testing.T) {
	site, browser := website(t), launch(t)
	a := join(t, browser, site, "6505530001", "ws", "edge-1", "turn:EDGE:3478?transport=udp")
	b := join(t, browser, site, "6505530002", "wss", "edge-2", "turn:EDGE:3478?transport=tcp")
	a.must(fmt.Sprintf("call(%q)", b.uri()), nil)
	started := time.Now()
	var got [2]media
	within(t, 20*time.Second, "both pages hear each other", func() bool {
		a.must("media()", &got[0])
		b.must("media()", &got[1])
		return got[0].Bytes > 20000 && got[1].Bytes > 20000 && got[0].Energy > 0 && got[1].Energy > 0
	})
	for i, m := range got {
		if m.Local != "relay" || m.Remote != "relay" || m.Relay != []string{"udp", "tcp"}[i] {
			t.Errorf("page %d: candidates are %s (%s) and %s", i, m.Local, m.Relay, m.Remote)
		}
	}
	for _, edge := range []string{"edge-1.site1", "edge-2.site1"} {
		if n := shared.Gauge(t.Context(), edge, "ims_turn_allocations"); n == 0 {
			t.Errorf("%s has no allocation", edge)
		}
	}
	t.Logf("figures: %.0f and %.0f bytes of audio received after %.1f s, relayed", got[0].Bytes, got[1].Bytes, time.Since(started).Seconds())
	b.must("hangUp()", nil)
	within(t, 5*time.Second, "the caller learns that the call is over", func() bool {
		var seen []string
		a.must("seen", &seen)
		return strings.Contains(strings.Join(seen, ","), "ended remote")
	})
	for _, p := range []*person{a, b} {
		p.must("stop()", nil)
	}
}
