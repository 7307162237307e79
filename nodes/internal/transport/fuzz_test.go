package transport

import (
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// FuzzFramer holds two laws: where a stream is cut does not matter, and a printed message is framed as exactly itself.
func FuzzFramer(f *testing.F) {
	f.Add([]byte(request("1", "body")), uint(7))
	f.Add([]byte("X sip:x SIP/2.0\nl\t:\n 3\r\n\r\nabcdef"), uint(20))
	f.Fuzz(func(t *testing.T, data []byte, cut uint) {
		whole := framer{maxHeader: 500, maxMessage: 1000}
		whole.reset()
		size, err := whole.next(data)
		if size < 0 || size > len(data) {
			t.Fatalf("%d bytes of %d", size, len(data))
		}
		parts := framer{maxHeader: 500, maxMessage: 1000}
		parts.reset()
		at := int(cut % uint(len(data)+1))
		n, perr := parts.next(data[:at])
		if n == 0 && perr == nil {
			n, perr = parts.next(data)
		}
		if perr == nil && err == nil && n != size {
			t.Fatalf("cut at %d: %d, whole: %d", at, n, size)
		}
		if (perr == nil) != (err == nil) {
			t.Fatalf("cut at %d: %v, whole: %v", at, perr, err)
		}
		m, err := sip.Parse(data)
		if err != nil {
			return
		}
		text := m.AppendTo(nil)
		printed := framer{maxHeader: len(text), maxMessage: len(text)}
		printed.reset()
		if n, err := printed.next(append(text, "INVITE"...)); n != len(text) || err != nil {
			t.Fatalf("a printed message of %d bytes is framed as %d, %v\n%q", len(text), n, err, text)
		}
	})
}
