package main

import (
	"crypto/tls"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// hold opens connections from an address, sends a byte on each, and tells how many stay open: want of them, or what there
// are when time is up.
func hold(t *testing.T, from, to string, n, want int) int {
	t.Helper()
	var open atomic.Int64
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	for range n {
		sock, err := dialer.Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = sock.Close() })
		_, _ = sock.Write([]byte{0x16}) // half a handshake, or half a message
		open.Add(1)
		go func() {
			_, _ = sock.Read(make([]byte, 1)) // the edge says nothing: this ends when it closes
			open.Add(-1)
		}()
	}
	const settled, most = 700 * time.Millisecond, 10 * time.Second
	began := time.Now()
	for tick := time.Tick(10 * time.Millisecond); time.Since(began) < most; <-tick {
		if int(open.Load()) == want && time.Since(began) > settled {
			break
		}
	}
	return int(open.Load())
}

// A host that opens connections and says nothing, or little, gets so many of each kind and no more in all; phones at other
// addresses, trusted peers and the core are served meanwhile; what it holds ends by itself.
func TestConnectionsOfOneAddress(t *testing.T) {
	s := startSite(t, "127.33.3.1", "127.33.3.2:5054", "edge_connections_per_address=60", "")
	if n := hold(t, "127.33.3.5", "127.33.3.1:5060", 80, 60); n != 60 {
		t.Errorf("%d connections of one address stay", n)
	}
	for _, port := range []string{"5061", "5062", "5063"} {
		if n := hold(t, "127.33.3.5", "127.33.3.1:"+port, 5, 0); n != 0 {
			t.Errorf("%d more on %s", n, port)
		}
	}
	if n := hold(t, "127.33.3.6", "127.33.3.1:5062", 70, 60); n != 60 {
		t.Errorf("%d of another address stay as WebSockets to be", n)
	}
	if n := hold(t, "127.23.6.13", "127.33.3.1:5061", 70, 70); n != 70 {
		t.Errorf("%d of a trusted peer stay", n)
	}
	if n := hold(t, "127.33.3.6", "127.33.3.1:5058", 70, 70); n != 70 {
		t.Errorf("%d of the core stay", n)
	}
	phone := startPeer(t, "127.33.3.7:5060")
	phone.send("tcp:127.33.3.1:5060", register("tcp", "127.33.3.7:5060", 1))
	phone.expect("200")
	sock, err := tls.DialWithDialer(&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.33.3.7")}}, "tcp", "127.33.3.1:5061", &tls.Config{RootCAs: s.roots, ServerName: "127.33.3.1"})
	if err != nil {
		t.Fatal(err)
	}
	_ = sock.Close()
}
