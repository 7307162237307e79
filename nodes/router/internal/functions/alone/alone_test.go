package main

import (
	"context"
	"crypto/md5" //nolint:gosec // RFC 2617
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/functions"
)

// phone registers at a router without a network: what it sends is given to the core, what comes back is kept.
type phone struct {
	router  *functions.Router
	flow    *transport.Flow
	answers chan string
	number  int
}

// Send implements transport.Link.
func (p *phone) Send(_ *transport.Flow, buf []byte, _ func(error)) error {
	p.answers <- string(buf)
	return nil
}

// Close implements transport.Link.
func (*phone) Close() {}

// Flow implements proxy.Wire; a registrar sends no requests.
func (p *phone) Flow(resolve.Hop) (*transport.Flow, error) { return p.flow, nil }

func newPhone(tb testing.TB) *phone {
	tb.Helper()
	o, _, err := config.Parse(
		config.File{Name: config.LocalFile, Text: "local_ip=127.31.0.1\npublic_ip=127.31.0.1\npublic_hostname=router-1.site1.ims.test\nnode_role=router\ndeployment_id=d\ndns_zone=ims.test"},
		config.File{Name: config.SharedFile, Text: "home_domain=ims.test\nnonce_key=alone"})
	if err != nil {
		tb.Fatal(err)
	}
	p := &phone{answers: make(chan string, 1)}
	p.flow = transport.NewFlow(transport.ID{
		Transport: resolve.UDP, Local: netip.MustParseAddrPort("127.31.0.1:5054"), Remote: netip.MustParseAddrPort("127.31.0.230:5070"),
	}, "core", p)
	p.router = functions.New(o, functions.Deps{
		HSS: newSubscribers(2000), Store: newStore(), Challenges: records.NewMemory(), Resolver: proxytest.Names{}, Wire: p,
		Now: time.Now, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Prompt: true,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.router.Core.Run(ctx) }()
	tb.Cleanup(func() { cancel(); <-done })
	return p
}

func (p *phone) send(tb testing.TB, text, want string) string {
	m, err := sip.Parse([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	p.router.Core.Message(m, p.flow)
	answer := <-p.answers
	if !strings.HasPrefix(answer, "SIP/2.0 "+want) {
		tb.Fatalf("want %s, got\n%s", want, answer)
	}
	return answer
}

const request = `REGISTER sip:ims.test SIP/2.0
Via: SIP/2.0/UDP 127.31.0.230:5070;branch=z9hG4bK-4711-%[2]d-%[4]d;rport
Max-Forwards: 70
From: <sip:%[1]s@ims.test>;tag=4711r%[2]d
To: <sip:%[1]s@ims.test>
Call-ID: %[2]d-4711@127.31.0.230
CSeq: %[4]d REGISTER
%[3]sContact: <sip:%[1]s@127.31.0.230:5070;transport=UDP>;+sip.instance="<urn:uuid:%[1]s>";+g.3gpp.icsi-ref="urn%%3Aurn-7%%3A3gpp-service.ims.icsi.mmtel"
Expires: 3600
P-Access-Network-Info: 3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=001010001000019B
Supported: path, gruu
Allow: INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, INFO, MESSAGE, OPTIONS, NOTIFY
User-Agent: sipp-ims
Content-Length: 0

`

// register is REGISTER, 401, REGISTER, 200.
func (p *phone) register(tb testing.TB) {
	p.number++
	user := fmt.Sprintf("65055%05d", p.number%2000)
	challenge := p.send(tb, fmt.Sprintf(request, user, p.number, "", 1), "401")
	_, rest, _ := strings.Cut(challenge, `nonce="`)
	nonce, _, _ := strings.Cut(rest, `"`)
	response := digest(digest(user+"@ims.test", "ims.test", "secret"), nonce, "00000001", "6b8b4567", "auth", digest("REGISTER", "sip:ims.test"))
	header := fmt.Sprintf("Authorization: Digest username=\"%s@ims.test\",realm=\"ims.test\",cnonce=\"6b8b4567\",nc=00000001,qop=auth,uri=\"sip:ims.test\",nonce=\"%s\",response=\"%s\",algorithm=MD5,opaque=\"clearwater\"\n", user, nonce, response)
	p.send(tb, fmt.Sprintf(request, user, p.number, header, 2), "200")
}

func digest(parts ...string) string {
	sum := md5.Sum([]byte(strings.Join(parts, ":"))) //nolint:gosec // RFC 2617
	return hex.EncodeToString(sum[:])
}

// BenchmarkRegistration includes the phone.
func BenchmarkRegistration(b *testing.B) {
	p := newPhone(b)
	for range 2000 {
		p.register(b)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.register(b)
	}
}

// TestRegistrationAllocations fails when a registration costs more allocations than it has to.
func TestRegistrationAllocations(t *testing.T) {
	p := newPhone(t)
	p.register(t)
	if n := testing.AllocsPerRun(500, func() { p.register(t) }); n > 190 {
		t.Errorf("%v allocations, with those of the phone", n)
	} else {
		t.Logf("%v allocations, with those of the phone", n)
	}
}
