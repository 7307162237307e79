package pcscf_test

import (
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// What a phone requires of proxies and this one lacks is told, and does not reach the core; what it has passes.
func TestProxyRequire(t *testing.T) {
	in(t, "", func(w *world) {
		w.register(w.alice, accessUDP, "alice")
		w.alice.Send(accessUDP, inviteText("Proxy-Require: sec-agree, teleport", "Proxy-Require: fly"))
		if m := w.alice.Expect("420"); m.Get(sip.Unsupported) != "teleport, fly" {
			t.Errorf("the refusal is\n%s", m)
		}
		w.alice.Send(accessUDP, strings.Replace(inviteText("Proxy-Require: sec-agree, privacy"), "Call-ID: ", "Call-ID: again", 1))
		m := w.router.Expect(sip.INVITE)
		if m.Get(sip.ProxyRequire) != "privacy" {
			t.Errorf("the router gets\n%s", m)
		}
		w.router.Reply(m, 486)
		w.router.Expect("ACK")
		w.alice.Expect("486")
	})
}
