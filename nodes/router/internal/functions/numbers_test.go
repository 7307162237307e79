package functions_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

const (
	enumDocument = `{"number_blocks":[
		{"name":"bob","prefix":"+15557","regex":"!^.*$!sip:bob@ims.test!"},
		{"name":"another number of bob","prefix":"+21","regex":"!^.*$!tel:+15557!"},
		{"name":"a number of a number of a number","prefix":"+22","regex":"!^.*$!tel:+21!"},
		{"name":"peer","prefix":"+44","regex":"!^(.*)$!sip:\\1@elsewhere.test!"},
		{"name":"peer, local","prefix":"0","regex":"!^0(.*)$!sip:+44\\1@elsewhere.test!"},
		{"name":"ported","prefix":"+33","regex":"!^(.*)$!tel:\\1;npdi;rn=+4470!"},
		{"name":"ported within sip:","prefix":"+34","regex":"!^(.*)$!sip:\\1;npdi;rn=+4470@ims.test!"}]}`
	trunks = `{"routes":[{"name":"n","number":"+4470","route":["sip:gateway.test;lr"]}]}`
)

// What the originating S-CSCF, the I-CSCF and the BGCF make of numbers (C14, I07, B05). want is the Request-URI that leaves,
// or a status.
func TestNumbersAreTranslated(t *testing.T) {
	for name, c := range map[string]struct{ options, to, want string }{
		"to a subscriber":               {"", "tel:+15557", "sip:bob@9.9.9.9:1234"},
		"sip number to a subscriber":    {"", "sip:+1-5557@ims.test", "sip:bob@9.9.9.9:1234"},
		"by way of another number":      {"", "tel:+21", "sip:bob@9.9.9.9:1234"},
		"by way of two other numbers":   {"", "tel:+22", "sip:bob@9.9.9.9:1234"},
		"to a peer":                     {"", "tel:+441", "sip:+441@elsewhere.test"},
		"of another domain":             {"", "sip:+331@elsewhere.test", "sip:+331@elsewhere.test"},
		"ported":                        {"", "tel:+331", "tel:+331;npdi;rn=+4470"},
		"ported within sip":             {"", "tel:+341", "sip:+341;npdi;rn=+4470@ims.test"},
		"looked up already":             {"", "tel:+331;npdi", "404"},
		"looked up already, overridden": {"override_npdi=Y", "tel:+331;npdi", "tel:+331;npdi;rn=+4470"},
		"npdi stops no look-up":         {"", "tel:+441;npdi", "sip:+441@elsewhere.test"},
		"digits without user=phone":     {"enforce_user_phone=Y", "sip:+441@ims.test", "404"},
		"digits with user=phone":        {"enforce_user_phone=Y", "sip:+441@ims.test;user=phone", "sip:+441@elsewhere.test"},
		"local number":                  {"", "tel:07;phone-context=+44", "sip:+447@elsewhere.test"},
		"local number, global only":     {"enforce_global_only_lookups=Y", "tel:07;phone-context=+44", "404"},
		"own subscriber by number":      {"", "tel:+15551", "480"},
		"unknown to all":                {"", "tel:+99", "404"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, c.options, func(w *world) {
				if err := w.router.SetEnum(enumDocument); err != nil {
					t.Fatal(err)
				}
				if err := w.router.SetRoutes(trunks); err != nil {
					t.Fatal(err)
				}
				w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9:1234>")
				outside := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.9:5060")
				w.edge.Send(scscf, invite(c.to))
				if len(c.want) == 3 {
					w.edge.Expect(c.want)
					return
				}
				peer := outside
				if strings.Contains(c.want, "9.9.9.9") {
					peer = w.edge
				}
				m := peer.Expect("INVITE")
				if m.URI != c.want {
					t.Errorf("sent to %s, want %s", m.URI, c.want)
				}
				if route := m.Get(sip.Route); peer == outside && (route == "<sip:gateway.test;lr>") != strings.Contains(c.want, "rn=") {
					t.Errorf("Route %q of %s", route, m.URI)
				}
				peer.Reply(m, 486)
				peer.Expect("ACK")
				w.edge.Expect("486")
			})
		})
	}
}

// A request that reaches the I-CSCF from another network: the HSS goes first, then ENUM, at most twice.
func TestICSCFLooksUpTwice(t *testing.T) {
	for to, c := range map[string]struct {
		want  string
		asked int
	}{
		"tel:+15551":            {"480", 1}, // known to the HSS: no translation
		"tel:+15557":            {"sip:bob@9.9.9.9:1234", 2},
		"tel:+21":               {"sip:bob@9.9.9.9:1234", 3},
		"tel:+22":               {"404", 3}, // a third look-up is the BGCF's, which finds no route
		"tel:+341":              {"sip:+341;npdi;rn=+4470@ims.test", 1},
		"sip:+441@ims.test":     {"sip:+441@elsewhere.test", 2}, // as sip: and as tel:
		"sip:nobody@ims.test":   {"404", 1},
		"sip:+99@ims.test":      {"404", 2},
		"tel:+99;phone-context": {"404", 1},
	} {
		t.Run(to, func(t *testing.T) {
			in(t, "", func(w *world) {
				for _, err := range []error{w.router.SetEnum(enumDocument), w.router.SetRoutes(trunks)} {
					if err != nil {
						t.Fatal(err)
					}
				}
				w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9:1234>")
				outside := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.9:5060")
				asked := w.hss.Calls("locate")
				w.edge.Send(icscf, strings.Replace(invite(to), "Route: <sip:scscf.router.ims.test;transport=TCP;lr;orig>\n", "", 1))
				peer := outside
				if len(c.want) == 3 {
					w.edge.Expect(c.want)
				} else {
					if strings.Contains(c.want, "9.9.9.9") {
						peer = w.edge
					}
					m := peer.Expect("INVITE")
					if m.URI != c.want {
						t.Errorf("sent to %s, want %s", m.URI, c.want)
					}
					peer.Reply(m, 486)
					peer.Expect("ACK")
					w.edge.Expect("486")
				}
				if n := w.hss.Calls("locate") - asked; n != c.asked {
					t.Errorf("the HSS was asked %d times, want %d", n, c.asked)
				}
			})
		})
	}
}

// enum_json goes before enum_file, and a document that is refused or gone leaves what was in force before.
func TestEnumDocumentAndFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "enum.json")
	if err := os.WriteFile(path, []byte(`{"number_blocks":[{"name":"all","prefix":"","regex":"!^.*$!sip:file@elsewhere.test!"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	in(t, "enum_file="+path, func(w *world) {
		outside := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.9:5060")
		call := 0
		leads := func(want string) {
			t.Helper()
			call++
			w.edge.Send(scscf, strings.Replace(invite("tel:+441"), "Call-ID: call", "Call-ID: call"+strings.Repeat("x", call), 1))
			m := outside.Expect("INVITE")
			if m.URI != want {
				t.Errorf("sent to %s, want %s", m.URI, want)
			}
			outside.Reply(m, 486)
			outside.Expect("ACK")
			w.edge.Expect("486")
		}
		leads("sip:file@elsewhere.test")
		if err := w.router.SetEnum(enumDocument); err != nil {
			t.Fatal(err)
		}
		leads("sip:+441@elsewhere.test")
		if err := w.router.SetEnum(`{"number_blocks":[{"name":"bad","prefix":"1","regex":"!("}]}`); err == nil || !strings.Contains(err.Error(), `"bad"`) {
			t.Errorf("a bad document: %v", err)
		}
		leads("sip:+441@elsewhere.test")
		if err := w.router.SetEnum(""); err != nil {
			t.Fatal(err)
		}
		leads("sip:file@elsewhere.test")
	})
}
