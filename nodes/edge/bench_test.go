package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// registrar grants every REGISTER; it is the core of the benchmark.
type registrar struct{}

func (registrar) Message(m *sip.Message, f *transport.Flow) {
	ok := m.NewResponse(200, "", "t")
	ok.Add(sip.Contact, m.Get(sip.Contact))
	ok.Add(sip.Path, m.Get(sip.Path))
	ok.Add(sip.ServiceRoute, "<sip:127.23.5.2:5052;transport=tcp;lr;orig>")
	_ = f.Send(ok.AppendTo(make([]byte, 0, 1024)), nil)
}

// BenchmarkRegister is one REGISTER through the edge on real sockets: UDP from a phone, TCP to a registrar, and back.
// The phone and the registrar run in the same process and are part of the figure.
func BenchmarkRegister(b *testing.B) {
	const local = "local_ip=127.23.5.1\npublic_ip=127.23.5.1\npublic_hostname=edge-1.site1.ims.test\nnode_role=edge\ndeployment_id=d\ndns_zone=ims.test"
	o, _, err := config.Parse(config.File{Name: config.LocalFile, Text: local},
		config.File{Name: config.SharedFile, Text: "home_domain=ims.test\nflow_token_key=k\nedge_reg_event=N\nedge_tls_port=0\nedge_ws_port=0\nedge_wss_port=0\nupstream_hostname=127.23.5.2\nupstream_port=5052"})
	if err != nil {
		b.Fatal(err)
	}
	resolver, err := resolve.New(resolve.Config{Servers: []string{"127.23.5.9:53"}, Blacklist: time.Second}, resolve.Deps{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	core, err := transport.New(transport.Config{Listeners: []transport.Listener{{Transport: resolve.TCP, Addr: netip.MustParseAddrPort("127.23.5.2:5052")}}}, transport.Deps{})
	if err != nil {
		b.Fatal(err)
	}
	e, err := compose(context.Background(), o, parts{options: func() *config.Options { return o }, resolver: resolver, log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{}, 2)
	go func() { _ = core.Run(ctx, registrar{}); done <- struct{}{} }()
	go func() { _ = e.Run(ctx); done <- struct{}{} }()
	defer func() { cancel(); <-done; <-done }()
	for e.upstream.Ready() != nil {
		<-time.After(time.Millisecond)
	}
	phone, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 23, 5, 1), Port: 5060})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = phone.Close() }()
	_ = phone.SetReadBuffer(4 << 20)
	buf := make([]byte, 2000)
	const window = 64
	b.ReportAllocs()
	b.ResetTimer()
	for sent, received := 0, 0; received < b.N; {
		for sent < b.N && sent-received < window {
			text := fmt.Sprintf("REGISTER sip:ims.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.23.5.3:5060;branch=z9hG4bK%[1]d;rport\r\nFrom: <sip:u%[2]d@ims.test>;tag=1\r\nTo: <sip:u%[2]d@ims.test>\r\nCall-ID: %[1]d\r\nCSeq: 1 REGISTER\r\nContact: <sip:u%[2]d@127.23.5.3>;expires=300\r\nAuthorization: Digest username=\"u@ims.test\", realm=\"ims.test\", nonce=\"abc\", response=\"0123456789abcdef\"\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n", sent, sent%10000)
			if _, err := phone.Write([]byte(text)); err != nil {
				b.Fatal(err)
			}
			sent++
		}
		_ = phone.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, err := phone.Read(buf)
		if err != nil {
			b.Fatalf("%d of %d: %v", received, sent, err)
		}
		if !strings.HasPrefix(string(buf[:n]), "SIP/2.0 200") {
			b.Fatal(string(buf[:n]))
		}
		received++
	}
}
