package transport

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
)

// sampleRequest is that of RFC 5769 section 2.1: credentials, an optional attribute, and a fingerprint.
const sampleRequest = `000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36
000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf`

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.ReplaceAll(text, "\n", ""), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The mapped addresses are those of RFC 5769 sections 2.2 and 2.3.
func TestSTUNAnswersAsTheRFCDoes(t *testing.T) {
	req := unhex(t, sampleRequest)
	req = append(req[:20:20], req[20+20+8:]...) // without the ICE attributes that would need an answer of their own
	binary.BigEndian.PutUint16(req[2:], uint16(len(req)-20))
	sum := binary.BigEndian.AppendUint32(nil, stunSum(req[:len(req)-8]))
	copy(req[len(req)-4:], sum)
	for from, mapped := range map[string]string{
		"192.0.2.1:32853": "0020 0008 0001a147e112a643",
		"[2001:db8:1234:5678:11:2233:4455:6677]:32853": "0020 0014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9",
	} {
		if !isSTUN(req) {
			t.Fatal("not seen as STUN")
		}
		got := answerSTUN(req, netip.MustParseAddrPort(from))
		value := unhex(t, mapped)
		want := append([]byte{1, 1, 0, byte(len(value) + 8)}, req[4:20]...)
		want = append(want, value...)
		if !bytes.HasPrefix(got, want) || len(got) != len(want)+8 || !bytes.Equal(got[len(want):len(want)+4], []byte{0x80, 0x28, 0, 4}) {
			t.Errorf("%s: got %x, want %x and a fingerprint", from, got, want)
		}
	}
}

// The fingerprint of RFC 5769 2.1 is right, and its PRIORITY is an attribute that a keep-alive server does not know.
func TestSTUNChecksTheFingerprintAndNamesWhatItDoesNotKnow(t *testing.T) {
	req := unhex(t, sampleRequest)
	from := netip.MustParseAddrPort("192.0.2.1:32853")
	got := answerSTUN(req, from)
	if len(got) < 20 || got[0] != 1 || got[1] != 0x11 || !bytes.Contains(got, []byte{0, 0x0A, 0, 2, 0, 0x24}) || !bytes.Contains(got, []byte{0, 0, 4, 20}) {
		t.Errorf("got %x", got)
	}
	if int(binary.BigEndian.Uint16(got[2:])) != len(got)-20 {
		t.Errorf("length of %x", got)
	}
	for i := range req {
		broken := bytes.Clone(req)
		broken[i] ^= 1
		named := i >= len(req)-8 && i < len(req)-6 // then it is no fingerprint any more
		if isSTUN(broken) && !named {
			if got := answerSTUN(broken, from); got != nil {
				t.Errorf("byte %d is broken, and answered with %x", i, got)
			}
		}
		if isSTUN(req[:i]) {
			t.Errorf("%d bytes are seen as STUN", i)
		}
	}
}

func FuzzSTUN(f *testing.F) {
	f.Add(unhex(f, sampleRequest))
	f.Add(unhex(f, "000100002112a442b7e7a701bc34d686fa87dfae"))
	from := netip.MustParseAddrPort("[2001:db8::1]:5060")
	f.Fuzz(func(t *testing.T, data []byte) {
		if !isSTUN(data) {
			return
		}
		if got := answerSTUN(data, from); got != nil && (!isSTUN(got) || answerSTUN(got, from) != nil) {
			t.Errorf("%x is answered with %x", data, got)
		}
	})
}

// Keep-alives on UDP, IPv4 and IPv6, among SIP.
func TestUDPKeepAlives(t *testing.T) {
	for _, addr := range []string{"127.23.2.1:0", "[::1]:0"} {
		got := make(collector, 1)
		_, udp, _ := serve(t, Config{Listeners: []Listener{{"u", resolve.UDP, netip.MustParseAddrPort(addr)}}}, got, nil)
		peer, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(udp))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = peer.Close() }()
		_ = peer.SetDeadline(time.Now().Add(10 * time.Second))
		binding := unhex(t, "000100002112a442b7e7a701bc34d686fa87dfae")
		local := peer.LocalAddr().(*net.UDPAddr).AddrPort()
		for _, c := range []struct{ send, want string }{
			{"\r\n\r\n", "\r\n"},
			{"\r\n", ""}, {"\x00", ""}, {"\x00\x11\x00\x00!\x12\xa4B0123456789ab", ""}, // an indication
			{string(binding), "\x01\x01"},
			{request("1", ""), "SIP/2.0 200"},
		} {
			if _, err := peer.Write([]byte(c.send)); err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				continue // then the next answer is that of the next
			}
			if strings.HasPrefix(c.want, "SIP") {
				if err := got.next(t).f.Send([]byte(c.want), nil); err != nil {
					t.Fatal(err)
				}
			}
			b := make([]byte, 200)
			n, err := peer.Read(b)
			if err != nil || !strings.HasPrefix(string(b[:n]), c.want) {
				t.Fatalf("%q: got %x %v", c.send, b[:n], err)
			}
			if c.want == "\x01\x01" && !bytes.Equal(b[24:n], xorAddress(local, binding[4:])) {
				t.Errorf("%s is told that it is %x", local, b[24:n])
			}
		}
	}
}
