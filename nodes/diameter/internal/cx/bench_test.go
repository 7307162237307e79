package cx_test

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/fiorix/go-diameter/v4/diam"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/cx"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/dictionary"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
)

// maa is an answer with an AKA vector as an HSS sends it.
func maa() wire.Message {
	req := done(wire.NewRequest(nil, wire.MultimediaAuth, wire.Cx, wire.FlagProxiable).Text(wire.SessionID, "gw.ims.test;1795219200;4711"))
	return done(start(req).Uint32(wire.ResultCode, 2001).Text(wire.UserName, "a@ims.test").Text(wire.PublicIdentity, "sip:a@ims.test").Uint32(wire.SIPNumberAuthItems, 1).
		Begin(wire.SIPAuthDataItem).Uint32(wire.SIPItemNumber, 1).Text(wire.SIPAuthenticationScheme, "Digest-AKAv1-MD5").Bytes(wire.SIPAuthenticate, make([]byte, 32)).
		Bytes(wire.SIPAuthorization, make([]byte, 8)).Bytes(wire.ConfidentialityKey, make([]byte, 16)).Bytes(wire.IntegrityKey, make([]byte, 16)).End())
}

// loop is a stream of one message again and again.
type loop struct {
	m    []byte
	rest []byte
}

func (l *loop) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		l.rest = l.m
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// BenchmarkMAA compares what it costs to read one answer from its bytes.
func BenchmarkMAA(b *testing.B) {
	m := maa()
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		r := bufio.NewReaderSize(&loop{m: m}, 64<<10)
		for b.Loop() {
			got, err := wire.ReadBuffered(r)
			if err != nil || !cx.ReadsVector(got) {
				b.Fatal(err)
			}
		}
	})
	b.Run("go-diameter", func(b *testing.B) {
		d, err := dictionary.Load()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		r := bufio.NewReaderSize(&loop{m: m}, 64<<10)
		for b.Loop() {
			if _, err := diam.ReadMessage(r, d.Parser); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// still is a peer that answers at once.
type still struct{ answer wire.Message }

func (s still) Do(context.Context, wire.Message, string) (wire.Message, error) { return s.answer, nil }
func (s still) SessionID() string                                              { return "gw.ims.test;1;1" }
func (s still) Host() string                                                   { return "gw.ims.test" }
func (s still) Realm() string                                                  { return "ims.test" }

// BenchmarkQuestion is a whole Multimedia-Auth without network and store: request, answer, what the router gets.
func BenchmarkQuestion(b *testing.B) {
	set := newBenchSettings()
	c := cx.New(cx.Deps{Peers: still{maa()}, Rows: records.NewMemory(), Settings: func() cx.Settings { return set }, Now: time.Now, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	b.ReportAllocs()
	for b.Loop() {
		resp, err := c.Authorize(context.Background(), &hss.AuthorizeRequest{Impi: "a@ims.test", Impu: "sip:a@ims.test", Scheme: "aka", WantVector: true})
		if err != nil || resp.GetAka() == nil {
			b.Fatal(resp, err)
		}
	}
}

// TestReadingTakesNoMemory: an answer is read where it lies.
func TestReadingTakesNoMemory(t *testing.T) {
	m := maa()
	if n := testing.AllocsPerRun(100, func() {
		if !cx.ReadsVector(m) {
			t.Fatal("no vector")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzAnswers reads any framed message as an answer of the HSS: whatever is in it, nothing panics.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(maa()))
	f.Add([]byte(done(experimental(start(maa()), 2003).Begin(wire.ServerCapabilities).Uint32(wire.MandatoryCapability, 1).End())))
	f.Add([]byte(done(start(maa()).Uint32(wire.ResultCode, 2001).Text(wire.UserData, profile).Begin(wire.ChargingInformation).Text(wire.PrimaryCharging, "aaa://x").End())))
	f.Fuzz(func(_ *testing.T, text []byte) {
		if m, err := wire.Read(bytes.NewReader(text)); err == nil {
			cx.ReadEverything(m)
		}
	})
}
