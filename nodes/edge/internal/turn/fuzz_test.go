package turn

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/pion/stun/v3"
)

// Whatever arrives is passed on, judged or dropped; what is judged names a user or does not; a stream yields frames that
// are whole, in order, and end where the bytes do.
func FuzzFrames(f *testing.F) {
	good := stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest), stun.NewUsername("u"), stun.NewRealm("r"), stun.NewShortTermIntegrity("p"), stun.Fingerprint)
	f.Add(good.Raw)
	f.Add(append([]byte{0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0}, good.Raw...))
	f.Add([]byte{0, 3, 0xff, 0xec, 0x21, 0x12, 0xa4, 0x42})
	c := &credentials{realm: "r"}
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, what := inspect(data); what == asks {
			_, _ = c.user(m)
			before := bytes.Clone(m.Raw)
			if fits(m, "k") && fits(m, "other") {
				t.Error("two keys fit")
			}
			if !bytes.Equal(before, m.Raw) {
				t.Error("checking has changed the message")
			}
		}
		near, far := net.Pipe()
		go func() {
			_, _ = far.Write(data)
			_ = far.Close()
		}()
		s := newStreams(&Server{}, nil, nil)
		conn := s.admit(near)
		var got []byte
		for {
			frame, err := conn.next()
			if err != nil {
				break
			}
			if len(frame) < 4 || len(frame) > maxPacket {
				t.Fatalf("a frame of %d bytes", len(frame))
			}
			got = append(got, frame...)
		}
		_ = conn.Close()
		_, _ = io.Copy(io.Discard, far)
		if !bytes.HasPrefix(data, got) {
			t.Error("frames are not what was sent")
		}
	})
}
