package main

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	pion "github.com/pion/turn/v4"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/edge/internal/turn"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss/hsstest"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
)

// The edge relays for the subscribers of the HSS, with the password of their SIP registration, at the ports and towards the
// peers that the options name, which change live.
func TestEdgeRelaysForSubscribers(t *testing.T) {
	const edge = "127.33.5.1"
	parse := func(shared string) *config.Options {
		o, _, err := config.Parse(
			config.File{Name: config.LocalFile, Text: "local_ip=" + edge + "\npublic_ip=" + edge + "\npublic_hostname=edge-1.site1.ims.test\nnode_role=edge\ndeployment_id=d\ndns_zone=ims.test"},
			config.File{Name: config.SharedFile, Text: "home_domain=ims.test\nflow_token_key=k\nedge_tls_port=0\nedge_wss_port=0\nturn_tls_port=0\nturn_relay_port_min=41000\nturn_relay_port_max=41099\n" + shared})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	var options = parse("turn_allowed_peers=127.33.5.3/32")
	server := hsstest.New("ims.test", "sip:scscf.router.ims.test")
	server.Add("6505550000@ims.test", "secret", "sip:6505550000@ims.test")
	resolver, err := resolve.New(resolve.Config{Servers: []string{"127.33.5.9:53"}}, resolve.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := compose(t.Context(), options, parts{
		options: func() *config.Options { return options }, resolver: resolver, log: slog.New(slog.DiscardHandler),
		subscribers: turn.Digests{HSS: server, Realm: func() string { return "ims.test" }},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	allocate := func(user, password string) (net.PacketConn, error) {
		sock, err := net.ListenPacket("udp", "127.33.5.2:0")
		if err != nil {
			t.Fatal(err)
		}
		c, err := pion.NewClient(&pion.ClientConfig{TURNServerAddr: edge + ":3478", Conn: sock, Username: user, Password: password, Realm: "ims.test"})
		if err == nil {
			err = c.Listen()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(); _ = sock.Close() })
		return c.Allocate()
	}
	for _, user := range []string{"6505550000@ims.test", "sip:6505550000@ims.test"} {
		relay, err := allocate(user, map[bool]string{true: "secret", false: "other"}[!strings.HasPrefix(user, "sip:")])
		if strings.HasPrefix(user, "sip:") { // its HA1 is of another name
			if err == nil || !strings.Contains(err.Error(), "401") {
				t.Errorf("%s: %v", user, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		at := relay.LocalAddr().(*net.UDPAddr)
		if at.Port < 41000 || at.Port > 41099 {
			t.Errorf("relay at %s", at)
		}
		if _, err := relay.WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP("127.33.5.3"), Port: 9}); err != nil {
			t.Errorf("an allowed peer: %v", err)
		}
		if _, err := relay.WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP("127.33.5.4"), Port: 9}); err == nil {
			t.Error("loopback is a peer by default")
		}
	}
	server.Fail(hss.Result_RESULT_UNAVAILABLE)
	if _, err := allocate("6505550000@ims.test", "secret"); err != nil {
		t.Errorf("what is known is asked again: %v", err)
	}
	if n := e.turn.Allocations(); n != 2 {
		t.Errorf("%d relays", n)
	}
	short, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	if err := e.Drain(short); err == nil {
		t.Error("a drain does not wait for relays")
	}
	if _, err := allocate("6505550000@ims.test", "secret"); err == nil || !strings.Contains(err.Error(), "486") {
		t.Errorf("while it drains: %v", err)
	}
	e.Resume()
	if _, err := allocate("6505550000@ims.test", "secret"); err != nil {
		t.Errorf("after it: %v", err)
	}
}
