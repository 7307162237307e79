package wire_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
)

func message(t testing.TB, b *wire.Builder) wire.Message {
	t.Helper()
	m, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// header is a header with any length.
func header(version byte, size int) []byte {
	b := make([]byte, wire.HeaderSize)
	binary.BigEndian.PutUint32(b, uint32(size))
	b[0] = version
	return b
}

func TestFramingIsGuarded(t *testing.T) {
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"length 0":         {header(1, 0), wire.ErrLength},
		"length 19":        {header(1, 19), wire.ErrLength},
		"not of four":      {header(1, 22), wire.ErrLength},
		"over 1 MiB":       {header(1, wire.MaxSize+4), wire.ErrLength},
		"16 MiB":           {header(1, 0xfffffc), wire.ErrLength},
		"version 2":        {header(2, 20), wire.ErrVersion},
		"cut in the head":  {header(1, 20)[:7], io.ErrUnexpectedEOF},
		"cut in the body":  {append(header(1, 40), 1, 2, 3), io.ErrUnexpectedEOF},
		"nothing":          {nil, io.EOF},
		"a header alone":   {header(1, 20), nil},
		"exactly at limit": {append(header(1, wire.MaxSize), make([]byte, wire.MaxSize-20)...), nil},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := wire.Read(bytes.NewReader(c.bytes)); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if _, err := wire.ReadBuffered(bufio.NewReader(bytes.NewReader(c.bytes))); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("buffered: got %v, want %v", err, c.want)
			}
		})
	}
}

// TestRefusedLengthTakesNoMemory reads headers that announce the longest length; a reader that believes them takes
// 16 MB for each.
func TestRefusedLengthTakesNoMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 1000 {
		_, _ = wire.Read(bytes.NewReader(header(1, 0xfffffc)))
		_, _ = wire.Read(bytes.NewReader(header(1, 4)))
	}
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 1<<20 {
		t.Errorf("%d bytes were taken for 2000 refused messages", taken)
	}
}

func TestBuildAndRead(t *testing.T) {
	m := message(t, wire.NewRequest(nil, wire.MultimediaAuth, wire.Cx, wire.FlagProxiable).
		Text(wire.SessionID, "a;1;2").
		Begin(wire.VendorSpecificApplicationID).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.AuthApplicationID, wire.Cx).End().
		Text(wire.PublicIdentity, "sip:a@b").
		Begin(wire.SIPAuthDataItem).Text(wire.SIPAuthenticationScheme, "SIP Digest").Begin(wire.SIPDigestAuthenticate).Text(wire.DigestHA1, "0123").End().End())
	m.SetHopByHop(7)
	m.SetEndToEnd(9)
	if _, err := wire.Check(m); err != nil {
		t.Fatal(err)
	}
	if m.Command() != 303 || m.Application() != 16777216 || !m.Request() || m.HopByHop() != 7 || m.EndToEnd() != 9 || m.Flags() != 0xc0 || m.BadFlags() {
		t.Errorf("header % x", []byte(m[:20]))
	}
	if m.Text(wire.SessionID) != "a;1;2" || m.Text(wire.PublicIdentity) != "sip:a@b" || m.Text(wire.ServerName) != "" {
		t.Errorf("%q, %q, %q", m.Text(wire.SessionID), m.Text(wire.PublicIdentity), m.Text(wire.ServerName))
	}
	item, _ := m.Find(wire.SIPAuthDataItem)
	inner, _ := wire.Find(item, wire.SIPDigestAuthenticate)
	if ha1, _ := wire.Find(inner, wire.DigestHA1); string(ha1) != "0123" {
		t.Errorf("the inner group holds %q", ha1)
	}
	if _, ok := m.Find(wire.Kind(601, 0)); ok {
		t.Error("an AVP of no vendor was taken for that of 3GPP")
	}

	answer := message(t, wire.NewAnswer(m, wire.FlagError).Uint32(wire.ResultCode, wire.ApplicationUnknown))
	if answer.Request() || answer.Flags() != wire.FlagProxiable|wire.FlagError || answer.HopByHop() != 7 || answer.EndToEnd() != 9 || answer.Text(wire.SessionID) != "a;1;2" {
		t.Errorf("answer % x", []byte(answer))
	}
}

func TestCheckRefuses(t *testing.T) {
	good := message(t, wire.NewRequest(nil, 300, wire.Cx, 0).Text(wire.UserName, "abcd").Text(wire.ServerName, "sip:x"))
	for name, spoil := range map[string]func([]byte) []byte{
		"AVP shorter than its head":      func(b []byte) []byte { b[20+7] = 7; return b },
		"AVP shorter than a vendor head": func(b []byte) []byte { b[32+7] = 11; return b },
		"AVP beyond the end":             func(b []byte) []byte { b[32+7] = 99; return b },
		"AVP of length 0":                func(b []byte) []byte { b[20+7] = 0; return b },
		"length other than the bytes":    func(b []byte) []byte { return b[:len(b)-4] },
		"odd bytes after the last AVP":   func(b []byte) []byte { b = append(b, 0, 0, 0, 0); b[3] += 4; return b },
		"nothing":                        func([]byte) []byte { return nil },
	} {
		if _, err := wire.Check(spoil(bytes.Clone(good))); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := wire.Check(good); err != nil {
		t.Errorf("the unspoiled one was refused: %v", err)
	}
}
