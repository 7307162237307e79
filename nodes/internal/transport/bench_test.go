package transport

import (
	"bufio"
	"net"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// echo prints each message back onto its flow.
type echo struct{}

func (echo) Message(m *sip.Message, f *Flow) {
	_ = f.Send(m.AppendTo(make([]byte, 0, 1024)), nil)
}

// BenchmarkUDPEcho is one packet in, parsed, printed, and out, plus a bare client's send and receive.
func BenchmarkUDPEcho(b *testing.B) {
	_, udp, _ := serve(b, Config{}, echo{}, nil)
	peer, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(udp))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = peer.Close() }()
	msg, buf := []byte(request("1", string(make([]byte, 500)))), make([]byte, 2000)
	const window = 32
	b.ReportAllocs()
	b.ResetTimer()
	for sent, received := 0, 0; received < b.N; {
		for sent < b.N && sent-received < window {
			if _, err := peer.Write(msg); err != nil {
				b.Fatal(err)
			}
			sent++
		}
		if _, err := peer.Read(buf); err != nil {
			b.Fatal(err)
		}
		received++
	}
}

// BenchmarkTCPEcho is one message on one connection, parsed, printed, and back.
func BenchmarkTCPEcho(b *testing.B) {
	_, _, tcp := serve(b, Config{}, echo{}, nil)
	c := dial(b, tcp)
	_ = c.SetDeadline(noDeadline)
	msg := []byte(request("1", string(make([]byte, 500))))
	size := int64(len(sipEcho(b, msg)))
	const window = 64 // messages under way: less than the queue takes
	credit := make(chan struct{}, window)
	go func() {
		for range b.N {
			credit <- struct{}{}
			if _, err := c.Write(msg); err != nil {
				return
			}
		}
	}()
	in := bufio.NewReaderSize(c, 64<<10)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := in.Discard(int(size)); err != nil {
			b.Fatal(err)
		}
		<-credit
	}
}

func BenchmarkFramer(b *testing.B) {
	msg := []byte(request("1", string(make([]byte, 500))))
	f := framer{maxHeader: 32 << 10, maxMessage: 64 << 10}
	b.ReportAllocs()
	for b.Loop() {
		f.reset()
		if n, err := f.next(msg); n != len(msg) || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkUDPSend(b *testing.B) {
	l, udp, _ := serve(b, Config{}, echo{}, nil)
	f, err := l.Flow(resolve.Hop{Addr: udp, Transport: resolve.UDP})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = f.Send([]byte("\r\n"), nil)
	}
}

var noDeadline time.Time

func sipEcho(b *testing.B, msg []byte) []byte {
	m, err := sip.Parse(msg)
	if err != nil {
		b.Fatal(err)
	}
	return m.AppendTo(nil)
}
