package pcscf

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

var someFlow = transport.ID{
	Transport: resolve.TCP, Local: netip.MustParseAddrPort("10.2.0.1:5060"), Remote: netip.MustParseAddrPort("10.9.0.1:40000"), Serial: 77,
}

func TestTokens(t *testing.T) {
	key, other := newSigner([]byte("k")), newSigner([]byte("other"))
	seal := key.sealRoutes(someFlow, "call", []string{"<sip:a;lr>", "<sip:b;lr>"})
	for _, s := range [][]byte{nil, seal} {
		text := key.token(someFlow, s)
		id, got, err := key.open(text)
		if err != nil || id != someFlow || string(got) != string(s) {
			t.Errorf("%v %q %v", id, got, err)
		}
		if _, _, err := other.open(text); err == nil {
			t.Error("a token of another key was accepted")
		}
		for i := range text {
			changed := "A"
			if text[i] == 'A' {
				changed = "B"
			}
			// Beyond the MAC is the seal, which open hands over unchecked.
			if id, _, err := key.open(text[:i] + changed + text[i+1:]); err == nil && id != someFlow {
				t.Errorf("byte %d changed: the token names %+v", i, id)
			}
			if _, _, err := key.open(text[:i]); err == nil && s == nil {
				t.Errorf("%d of %d characters were accepted", i, len(text))
			}
		}
	}
	for _, text := range []string{"", "A", "!!", strings.Repeat("A", 300)} {
		if _, _, err := key.open(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestSealHoldsRoutesCallAndFlow(t *testing.T) {
	key := newSigner([]byte("k"))
	seal := func(id transport.ID, call string, routes ...string) string {
		return string(key.sealRoutes(id, call, routes))
	}
	moved := someFlow
	moved.Serial++
	base := seal(someFlow, "c", "<sip:a;lr>", "<sip:b;lr>")
	if base != seal(someFlow, "c", `"x" <sip:a;lr>;h=1`, "<sip:b;lr>") {
		t.Error("a display name matters")
	}
	for what, got := range map[string]string{
		"order":    seal(someFlow, "c", "<sip:b;lr>", "<sip:a;lr>"),
		"one less": seal(someFlow, "c", "<sip:a;lr>"),
		"none":     seal(someFlow, "c"),
		"joined":   seal(someFlow, "c", "<sip:a;lr\x00sip:b;lr>"),
		"call":     seal(someFlow, "d", "<sip:a;lr>", "<sip:b;lr>"),
		"flow":     seal(moved, "c", "<sip:a;lr>", "<sip:b;lr>"),
		"no lr":    seal(someFlow, "c", "<sip:a>", "<sip:b;lr>"),
	} {
		if got == base {
			t.Errorf("%s does not matter", what)
		}
	}
}

func BenchmarkToken(b *testing.B) {
	key := newSigner([]byte("k"))
	b.ReportAllocs()
	for b.Loop() {
		_ = key.token(someFlow, nil)
	}
}

func BenchmarkOpenAndSeal(b *testing.B) {
	key := newSigner([]byte("k"))
	routes := []string{"<sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-orig>", "<sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-term>"}
	text := key.token(someFlow, key.sealRoutes(someFlow, "call", routes))
	b.ReportAllocs()
	for b.Loop() {
		id, _, err := key.open(text)
		if err != nil {
			b.Fatal(err)
		}
		_ = key.sealRoutes(id, "call", routes)
	}
}
