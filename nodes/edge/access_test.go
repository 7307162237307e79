package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// site is an edge on real sockets with a core behind it and the authority that phones trust.
type site struct {
	edge  *edge
	host  string // of the edge, as URIs write it
	core  *miniature
	roots *x509.CertPool
}

func startSite(t *testing.T, edgeAddr, coreAddr, shared, local string) *site {
	t.Helper()
	at := netip.MustParseAddrPort(coreAddr)
	o, _, err := config.Parse(
		config.File{Name: config.LocalFile, Text: "local_ip=" + edgeAddr + "\npublic_ip=" + edgeAddr + "\npublic_hostname=edge-1.site1.ims.test\nnode_role=edge\ndeployment_id=d\ndns_zone=ims.test\n" + local},
		config.File{Name: config.SharedFile, Text: fmt.Sprintf("home_domain=ims.test\nflow_token_key=k\nedge_reg_event=N\nupstream_hostname=%s\nupstream_port=%d\n%s", at.Addr(), at.Port(), shared)},
		config.File{Name: config.UserFile, Text: "upstream_connections=1\ntrusted_peers=127.23.6.13"})
	if err != nil {
		t.Fatal(err)
	}
	resolver, err := resolve.New(resolve.Config{Servers: []string{"127.23.6.9:53"}}, resolve.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.NewDeploymentCA("d")
	if err != nil {
		t.Fatal(err)
	}
	chain, key, err := ca.Issue(pki.Subject{Name: "edge-1.site1", Role: "edge", Addresses: []string{edgeAddr}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := pki.Static(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{host: sip.HostPort(edgeAddr, 0), roots: x509.NewCertPool()}
	s.roots.AppendCertsFromPEM(ca.CertificatePEM())
	s.core = startMiniature(t, at, netip.AddrPortFrom(netip.MustParseAddr(edgeAddr), config.PortEdgeTrusted))
	s.edge, err = compose(context.Background(), o, parts{options: func() *config.Options { return o }, resolver: resolver, identity: identity, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.edge.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	until(t, func() bool { return s.edge.upstream.Ready() == nil })
	return s
}

// miniature is a core that grants every registration and carries calls between registered users.
type miniature struct {
	layer    *transport.Layer
	edge     resolve.Hop
	route    string
	mu       sync.Mutex
	branches int
	origin   map[string]*transport.Flow // by our branch
	contact  map[string]string          // by user
	path     map[string]string
	seen     []*sip.Message // requests
}

func startMiniature(t *testing.T, addr, edge netip.AddrPort) *miniature {
	t.Helper()
	layer, err := transport.New(transport.Config{Listeners: []transport.Listener{{Transport: resolve.TCP, Addr: addr}}}, transport.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	c := &miniature{
		layer: layer, edge: resolve.Hop{Addr: edge, Transport: resolve.TCP}, route: "<sip:" + addr.String() + ";transport=TCP;lr>",
		origin: map[string]*transport.Flow{}, contact: map[string]string{}, path: map[string]string{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = layer.Run(ctx, c) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

// Message implements transport.Handler.
func (c *miniature) Message(m *sip.Message, f *transport.Flow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !m.IsRequest() {
		via, _ := sip.ParseVia(m.Pop(sip.Via))
		if back := c.origin[via.Branch()]; back != nil {
			_ = back.Send(m.AppendTo(nil), nil)
		}
		return
	}
	c.seen = append(c.seen, m.Clone())
	if m.Method == sip.REGISTER {
		c.grant(m, f)
		return
	}
	m.Pop(sip.Route) // our Service-Route, or our Record-Route
	if u, err := sip.ParseURI(m.URI); err == nil && u.Host == "ims.test" {
		m.URI = c.contact[u.User]
		m.Push(sip.Route, c.path[u.User])
		m.Push(sip.RecordRoute, c.route)
	}
	c.branches++
	branch := sip.MagicCookie + strconv.Itoa(c.branches)
	c.origin[branch] = f
	m.Push(sip.Via, "SIP/2.0/TCP "+strings.TrimPrefix(strings.SplitN(c.route, ";", 2)[0], "<sip:")+";branch="+branch)
	if next, err := c.layer.Flow(c.edge); err == nil {
		_ = next.Send(m.AppendTo(nil), nil)
	}
}

// pathOf is the Path that a user registered with.
func (c *miniature) pathOf(user string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.path[user]
}

func (c *miniature) grant(m *sip.Message, f *transport.Flow) {
	to, _ := sip.AddressURI(m.Get(sip.To))
	contact, _ := sip.ParseAddress(m.Get(sip.Contact))
	c.contact[to.User], c.path[to.User] = contact.URI, m.Get(sip.Path)
	ok := m.NewResponse(200, "", "core")
	ok.Add(sip.Contact, m.Get(sip.Contact))
	ok.Add(sip.Path, m.Get(sip.Path))
	ok.Add(sip.ServiceRoute, c.route)
	if m.HasOption(sip.Supported, "outbound") {
		ok.Add(sip.Require, "outbound")
	}
	_ = f.Send(ok.AppendTo(nil), nil)
}

// last is the last request of a method that the core has seen.
func (c *miniature) last(t *testing.T, method string) *sip.Message {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range slices.Backward(c.seen) {
		if m.Method == method {
			return m
		}
	}
	t.Fatalf("the core has seen no %s", method)
	return nil
}

// phone is a user on one transport, written without the edge's own.
type phone struct {
	t            *testing.T
	user, kind   string
	edge         string // the host that it talks to
	via, contact string
	write        func(text string) error
	closeDown    func()
	in           chan *sip.Message
}

// access names the ways in: URI transport, port, whether TLS.
var access = map[string]struct { //nolint:gochecknoglobals // a table
	port int
	tls  bool
}{"udp": {5060, false}, "tcp": {5060, false}, "tls": {5061, true}, "ws": {5062, false}, "wss": {5063, true}}

func (s *site) phone(t *testing.T, user, kind string) *phone {
	t.Helper()
	way := access[kind]
	addr := s.host + ":" + strconv.Itoa(way.port)
	p := &phone{t: t, user: user, kind: kind, edge: s.host, in: make(chan *sip.Message, 20)}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	trust := &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12}
	switch kind {
	case "ws", "wss":
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust}}
		c, _, err := websocket.Dial(ctx, kind+"://"+addr, &websocket.DialOptions{Subprotocols: []string{"sip"}, HTTPClient: client}) //nolint:bodyclose // the library closes it
		if err != nil {
			t.Fatal(err)
		}
		p.via, p.contact = "df7jal23ls0d.invalid", "sip:"+user+"@df7jal23ls0d.invalid;transport=ws"
		p.write = func(text string) error { return c.Write(ctx, websocket.MessageText, []byte(text)) }
		p.closeDown = func() { _ = c.Close(websocket.StatusNormalClosure, "") }
		go p.listen(func() ([]byte, error) { _, b, err := c.Read(ctx); return b, err })
	default:
		network := "tcp"
		if kind == "udp" {
			network = "udp"
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			t.Fatal(err)
		}
		p.via, p.contact = c.LocalAddr().String(), "sip:"+user+"@"+c.LocalAddr().String()+";transport="+kind
		if way.tls {
			trust.ServerName = strings.Trim(s.host, "[]")
			c = tls.Client(c, trust)
		}
		p.write = func(text string) error { _, err := io.WriteString(c, text); return err }
		p.closeDown = func() { _ = c.Close() }
		if kind == "udp" {
			go p.listen(func() ([]byte, error) { b := make([]byte, 65535); n, err := c.Read(b); return b[:n], err })
		} else {
			r := bufio.NewReader(c)
			go p.listen(func() ([]byte, error) { return cut(r) })
		}
	}
	t.Cleanup(p.closeDown)
	return p
}

// cut reads one message off a stream.
func cut(r *bufio.Reader) ([]byte, error) {
	var b []byte
	length := 0
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		b = append(b, line...)
		if text, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			length, _ = strconv.Atoi(strings.TrimSpace(text))
		}
		if len(line) == 2 {
			body := make([]byte, length)
			_, err := io.ReadFull(r, body)
			return append(b, body...), err
		}
	}
}

func (p *phone) listen(next func() ([]byte, error)) {
	defer close(p.in)
	for {
		b, err := next()
		if err != nil {
			return
		}
		if m, err := sip.Parse(b); err == nil && m.Status != 100 {
			p.in <- m
		}
	}
}

func (p *phone) expect(what string) *sip.Message {
	p.t.Helper()
	select {
	case m, ok := <-p.in:
		if !ok {
			p.t.Fatalf("%s is cut off, want %s", p.user, what)
		}
		have := m.Method
		if !m.IsRequest() {
			have = strconv.Itoa(m.Status)
		}
		if have != what {
			p.t.Fatalf("%s got %s, want %s", p.user, m, what)
		}
		return m
	case <-time.After(10 * time.Second):
		p.t.Fatalf("%s got nothing, want %s", p.user, what)
	}
	return nil
}

func (p *phone) send(method, uri, callID string, seq int, headers ...string) {
	p.t.Helper()
	lines := append([]string{
		method + " " + uri + " SIP/2.0",
		fmt.Sprintf("Via: SIP/2.0/%s %s;branch=z9hG4bK%s%s%s%d;rport", strings.ToUpper(p.kind), p.via, p.user, callID, method, seq),
		"Call-ID: " + callID, fmt.Sprintf("CSeq: %d %s", seq, method), "Max-Forwards: 70",
	}, headers...)
	if err := p.write(strings.Join(lines, "\r\n") + "\r\nContent-Length: 0\r\n\r\n"); err != nil {
		p.t.Fatal(err)
	}
}

func (p *phone) register() *sip.Message {
	p.t.Helper()
	me := fmt.Sprintf("<sip:%s@ims.test>", p.user)
	p.send("REGISTER", "sip:ims.test", "reg-"+p.user, 1, "From: "+me+";tag=r", "To: "+me, "Supported: path, outbound",
		"Contact: <"+p.contact+`>;expires=300;reg-id=1;+sip.instance="<urn:uuid:00000000-0000-0000-0000-0000000000`+p.user[:1]+`a>"`)
	return p.expect("200")
}

func (p *phone) answer(m *sip.Message) {
	p.t.Helper()
	ok := m.NewResponse(200, "", "tag-"+p.user)
	for _, rr := range m.All(sip.RecordRoute) {
		ok.Add(sip.RecordRoute, rr)
	}
	ok.Add(sip.Contact, "<"+p.contact+">")
	if err := p.write(string(ok.AppendTo(nil))); err != nil {
		p.t.Fatal(err)
	}
}

// call has one phone call another, who hangs up.
func (s *site) call(t *testing.T, from, to *phone, uri string) {
	t.Helper()
	id := "call-" + from.user + "-" + to.user
	caller, called := fmt.Sprintf("<sip:%s@ims.test>", from.user), fmt.Sprintf("<sip:%s@ims.test>", to.user)
	from.send("INVITE", uri, id, 1, "From: "+caller+";tag=f", "To: "+called, "Contact: <"+from.contact+">")
	invite := to.expect("INVITE")
	if want := fmt.Sprintf("SIP/2.0/%s %s:%d;", strings.ToUpper(to.kind), to.edge, access[to.kind].port); !strings.HasPrefix(invite.Get(sip.Via), want) {
		t.Errorf("Via %q, want %s", invite.Get(sip.Via), want)
	}
	if invite.URI != to.contact {
		t.Errorf("%s is called as %s", to.contact, invite.URI)
	}
	side := func(kind string) string {
		return fmt.Sprintf("@edge-1.site1.ims.test:%d;transport=%s;lr>", access[kind].port, kind)
	}
	core := fmt.Sprintf("<sip:%s:5058;transport=TCP;lr>", s.host)
	rr := invite.All(sip.RecordRoute)
	for i, want := range []string{side(to.kind), core, s.core.route, core, side(from.kind)} {
		if len(rr) != 5 || !strings.HasSuffix(rr[i], want) {
			t.Fatalf("Record-Route %q, want %d to end in %s", rr, i, want)
		}
	}
	to.answer(invite)
	ok := from.expect("200")
	if vias := ok.All(sip.Via); len(vias) != 1 || !strings.Contains(vias[0], from.via) {
		t.Errorf("Via %q", vias)
	}
	routes := ok.All(sip.RecordRoute)
	slices.Reverse(routes)
	target, _ := sip.AddressURI(ok.Get(sip.Contact))
	lines := []string{"From: " + caller + ";tag=f", "To: " + ok.Get(sip.To)}
	for _, r := range routes {
		lines = append(lines, "Route: "+r)
	}
	from.send("ACK", target.String(), id, 1, lines...)
	to.expect("ACK")

	lines = []string{"From: " + ok.Get(sip.To), "To: " + caller + ";tag=f"}
	for _, r := range rr {
		lines = append(lines, "Route: "+r)
	}
	to.send("BYE", from.contact, id, 7, lines...)
	from.answer(from.expect("BYE"))
	to.expect("200")
}

// Phones on every transport register and call each other; the edge joins WebSocket and UDP, TLS and TCP.
func TestCallsBetweenTransports(t *testing.T) {
	for name, at := range map[string]struct{ edge, core string }{"IPv4": {"127.23.6.1", "127.23.6.2:5052"}, "IPv6": {"::1", "[::1]:15052"}} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, at.edge, at.core, "", "")
			phones := map[string]*phone{}
			for user, kind := range map[string]string{"alice": "ws", "bob": "udp", "carol": "wss", "dave": "tls", "erin": "tcp"} {
				p := s.phone(t, user, kind)
				phones[kind] = p
				ok := p.register()
				want := "120"
				if kind == "udp" {
					want = "25"
				}
				if got := ok.Get(sip.FlowTimer); got != want {
					t.Errorf("%s: Flow-Timer %q", kind, got)
				}
				vias := s.core.last(t, "REGISTER").All(sip.Via)
				if !strings.HasPrefix(vias[1], "SIP/2.0/"+strings.ToUpper(kind)+" "+p.via) || !strings.HasPrefix(vias[0], "SIP/2.0/TCP "+s.host+":5058;") {
					t.Errorf("%s: Via %q", kind, vias)
				}
				if path := s.core.pathOf(user); !strings.HasSuffix(path, "@"+s.host+":5058;transport=TCP;lr;ob>") {
					t.Errorf("%s: Path %s", kind, path)
				}
			}
			for _, pair := range [][2]string{{"ws", "udp"}, {"udp", "ws"}, {"wss", "udp"}, {"tls", "tcp"}, {"tcp", "wss"}, {"udp", "tls"}, {"tls", "wss"}} {
				from, to := phones[pair[0]], phones[pair[1]]
				s.call(t, from, to, "sip:"+to.user+"@ims.test")
			}
			phones["wss"].closeDown()
			phones["tls"].closeDown()
			until(t, func() bool { return s.edge.function.Registrations() == 3 })
			phones["ws"].send("MESSAGE", "sip:carol@ims.test", "late", 1, "From: <sip:alice@ims.test>;tag=f", "To: <sip:carol@ims.test>")
			phones["ws"].expect("430")
		})
	}
}

// The Record-Route of a call to a sips: URI is one itself on a secure flow, and nothing changes elsewhere.
func TestSecureURIs(t *testing.T) {
	s := startSite(t, "127.23.6.3", "127.23.6.4:5052", "", "")
	for kind, want := range map[string]string{
		"tls": "@edge-1.site1.ims.test:5061;transport=tcp;lr>", "wss": "@edge-1.site1.ims.test:5063;transport=ws;lr>", "udp": "@edge-1.site1.ims.test:5060;transport=udp;lr>",
	} {
		p := s.phone(t, "u"+kind, kind)
		p.register()
		p.send("INVITE", "sips:utls@ims.test", "sips-"+kind, 1, "From: <sip:u"+kind+"@ims.test>;tag=f", "To: <sips:bob@ims.test>", "Contact: <"+p.contact+">")
		until(t, func() bool {
			s.core.mu.Lock()
			defer s.core.mu.Unlock()
			return s.core.seen[len(s.core.seen)-1].CallID() == "sips-"+kind
		})
		rr := s.core.last(t, "INVITE").All(sip.RecordRoute)
		if len(rr) != 2 || !strings.HasSuffix(rr[1], want) || strings.HasPrefix(rr[1], "<sips:") != (kind != "udp") {
			t.Errorf("%s: Record-Route %q", kind, rr)
		}
	}
}

// While the edge drains, phones are sent elsewhere over their own transport; web pages know URLs only, so they are asked
// to come back.
func TestDrainSendsPhonesAway(t *testing.T) {
	s := startSite(t, "127.23.6.7", "127.23.6.8:5052", "", "")
	s.edge.function.Quiesce(true)
	for kind, want := range map[string]string{"tls": "305", "ws": "503", "wss": "503"} {
		p := s.phone(t, "u"+kind, kind)
		p.send("REGISTER", "sip:ims.test", "r", 1, "From: <sip:u@ims.test>;tag=r", "To: <sip:u@ims.test>", "Contact: <"+p.contact+">;expires=300")
		away := p.expect(want)
		if want == "305" && away.Get(sip.Contact) != "<sip:ims.test;transport=tls>" || want == "503" && away.Get(sip.RetryAfter) == "" {
			t.Errorf("%s: %s", kind, away)
		}
	}
}

// An edge with both families joins phones of one and the other.
func TestBothFamiliesAtOnce(t *testing.T) {
	s := startSite(t, "127.23.6.9", "127.23.6.10:5052", "", "local_ip6=::1")
	six := *s
	six.host = "[::1]"
	for _, kind := range []string{"udp", "tcp", "ws"} {
		four, other := s.phone(t, "four"+kind, kind), six.phone(t, "six"+kind, kind)
		four.register()
		other.register()
		if via := s.core.last(t, "REGISTER").All(sip.Via); !strings.HasPrefix(via[0], "SIP/2.0/TCP 127.23.6.9:5058;") {
			t.Errorf("Via %q", via)
		}
		for _, pair := range [][2]*phone{{four, other}, {other, four}} {
			s.call(t, pair[0], pair[1], "sip:"+pair[1].user+"@ims.test")
		}
	}
}

// A trunk is trusted by its address; with tls_peer_ca_file it must prove itself over TLS too. Phones need not.
func TestTrunksShowCertificates(t *testing.T) {
	good, err := pki.NewDeploymentCA("peers")
	if err != nil {
		t.Fatal(err)
	}
	bad, err := pki.NewDeploymentCA("others")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "peers.pem")
	if err := os.WriteFile(file, good.CertificatePEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := startSite(t, "127.23.6.11", "127.23.6.12:5052", "", "tls_peer_ca_file="+file)
	s.phone(t, "alice", "tls").register()
	for _, c := range []struct {
		ca *pki.Authority
		ok bool
	}{{nil, false}, {bad, false}, {good, true}} {
		cfg := &tls.Config{RootCAs: s.roots, ServerName: s.host, MinVersion: tls.VersionTLS12}
		if c.ca != nil {
			chain, key, err := c.ca.Issue(pki.Subject{Name: "sbc", Role: "peer"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			pair, err := tls.X509KeyPair(chain, key)
			if err != nil {
				t.Fatal(err)
			}
			cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 23, 6, 13)}}
		raw, err := d.DialContext(t.Context(), "tcp", s.host+":5061")
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
		trunk := tls.Client(raw, cfg)
		_, _ = io.WriteString(trunk, "OPTIONS sip:127.23.6.11 SIP/2.0\r\nVia: SIP/2.0/TLS 127.23.6.13;branch=z9hG4bKo\r\nFrom: <sip:sbc@peer.test>;tag=1\r\nTo: <sip:127.23.6.11>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 1\r\nContent-Length: 0\r\n\r\n")
		answer, err := cut(bufio.NewReader(trunk))
		if got := err == nil && strings.HasPrefix(string(answer), "SIP/2.0 200"); got != c.ok {
			t.Errorf("certificate of %v: %q %v", c.ca != nil, answer, err)
		}
		_ = trunk.Close()
	}
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := mutual(&certificate{}, file, nil); err == nil {
		t.Error("a file without certificates is taken")
	}
}

// Ports can be turned off, and web pages of other origins kept away.
func TestPortsAndOriginsAreOptions(t *testing.T) {
	s := startSite(t, "127.23.6.5", "127.23.6.6:5052", "edge_tls_port=0\nedge_ws_port=6062\nedge_wss_port=0\nedge_ws_origins=*.ims.test", "")
	for _, port := range []int{5061, 5062, 5063} {
		if c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", s.host, port), time.Second); err == nil {
			_ = c.Close()
			t.Errorf("port %d is open", port)
		}
	}
	for origin, want := range map[string]bool{"https://web.ims.test": true, "https://evil.test": false} {
		c, _, err := websocket.Dial(t.Context(), "ws://"+s.host+":6062", &websocket.DialOptions{Subprotocols: []string{"sip"}, HTTPHeader: http.Header{"Origin": {origin}}}) //nolint:bodyclose // the library closes it
		if (err == nil) != want {
			t.Errorf("%s: %v", origin, err)
		}
		if err == nil {
			_ = c.CloseNow()
		}
	}
}

// The certificate of the files is shown, also after it has changed; half a change leaves the old one.
func TestCertificateOfFilesIsReadAgain(t *testing.T) {
	ca, err := pki.NewDeploymentCA("d")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	store := func(name string, when time.Time) {
		t.Helper()
		chain, key, err := ca.Issue(pki.Subject{Name: name, Role: "edge", DNSNames: []string{name}}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string][]byte{certFile: chain, keyFile: key} {
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(certFile, when, when); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	store("one.test", start)
	c, err := newCertificate(certFile, keyFile, nil)
	if err != nil {
		t.Fatal(err)
	}
	shown := func() string {
		t.Helper()
		c.looked = time.Time{} // time to look again
		pair, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.Subject.CommonName
	}
	if got := shown(); got != "one.test" {
		t.Errorf("shown %s", got)
	}
	if err := os.WriteFile(certFile, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := shown(); got != "one.test" {
		t.Errorf("with half a file, shown %s", got)
	}
	store("two.test", start.Add(time.Minute))
	if got := shown(); got != "two.test" {
		t.Errorf("after a change, shown %s", got)
	}
	for _, files := range [][2]string{{certFile, ""}, {"", keyFile}, {certFile, certFile}, {filepath.Join(dir, "none"), keyFile}} {
		if _, err := newCertificate(files[0], files[1], nil); err == nil {
			t.Errorf("%q is taken", files)
		}
	}
}
