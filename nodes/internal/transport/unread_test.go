package transport

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
)

func TestUnreadDatagramsAreSeen(t *testing.T) {
	layer, err := New(Config{Sockets: 2, Listeners: []Listener{{Name: "a", Transport: resolve.UDP, Addr: netip.MustParseAddrPort("127.0.0.1:0")}}}, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if layer.Unread() {
		t.Error("a datagram waits where none was sent")
	}
	peer, err := net.Dial("udp", layer.Listeners()[0].Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if _, err := peer.Write([]byte("\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for !layer.Unread() { // nobody reads: Run is not running
		if time.Now().After(deadline) {
			t.Fatal("the datagram is not seen")
		}
	}
}
