package calls

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/acctest/sipp"
)

func TestCallUDP(t *testing.T) {
	a, b := newPhone(t, "u1"), newPhone(t, "u1")
	a.register()
	b.register()
	answering := b.script("answer").Start(t)
	a.calls(b, "call").Must(t)
	must(t, answering)
}

func must(t *testing.T, p *sipp.Process) {
	t.Helper()
	if r := p.Wait(); r.Err != nil {
		t.Fatalf("the called phone: %v\n%s", r.Err, r.Errors)
	}
}

func TestCallFromTCPToUDP(t *testing.T) {
	a, b := newPhone(t, "t1"), newPhone(t, "u1")
	b.register()
	answering := b.script("answer").Start(t)
	a.calls(b, "caller").Must(t)
	must(t, answering)
}

// The called phone has one TCP connection: it registers on it, and what comes in on it is a call of its own.
func TestCallToTCP(t *testing.T) {
	a, b := newPhone(t, "u1"), newPhone(t, "t1")
	a.register()

	stays := b.script("phone")
	stays.OutOfCall = "answer"
	process := stays.Start(t)
	within(t, 5*time.Second, "phone B is registered", func() bool { return b.state() == "REGISTERED" })
	a.calls(b, "call").Must(t)
	process.Stop()
}

func TestCallNotRegistered(t *testing.T) {
	a, b := newPhone(t, "u1"), newPhone(t, "u1")
	a.register()
	a.calls(b, "call-480").Must(t)
}

func TestCallUnknown(t *testing.T) {
	a, b := newPhone(t, "u1"), newPhone(t, "u1")
	a.register()
	b.Name = "nobody"
	a.calls(b, "call-404").Must(t)
}

func TestCallBusy(t *testing.T) {
	a, b := newPhone(t, "u1"), newPhone(t, "u1")
	a.register()
	b.register()
	answering := b.script("answer-busy").Start(t)
	a.calls(b, "call-486").Must(t)
	must(t, answering)
}

func TestCallCancelled(t *testing.T) {
	a, b := newPhone(t, "u1"), newPhone(t, "u1")
	a.register()
	b.register()
	answering := b.script("answer-ring-only").Start(t)
	a.calls(b, "call-cancelled").Must(t)
	must(t, answering)
}

// Both phones of the called user ring; one answers, the other is cancelled.
func TestCallForkedToTwoPhones(t *testing.T) {
	a, b := newPhone(t, "u1"), newPhone(t, "u1")
	second := b.another()
	a.register()
	b.register()
	second.register()
	ringing := second.script("answer-ring-only").Start(t)
	answering := b.script("answer").Start(t)
	a.calls(b, "call-forked").Must(t)
	must(t, answering)
	must(t, ringing)
}

func TestMessageBothWays(t *testing.T) {
	a, b := newPhone(t, "u1"), newPhone(t, "u1")
	a.register()
	b.register()
	for _, way := range [][2]*phone{{a, b}, {b, a}} {
		receiving := way[1].script("answer-message").Start(t)
		way[0].calls(way[1], "message").Must(t)
		must(t, receiving)
	}
}

func TestMessageToNobody(t *testing.T) {
	a, b := newPhone(t, "u1"), newPhone(t, "u1")
	a.register()
	a.calls(b, "message-480").Must(t)
}

func TestCallWithReInviteHungUpByTheCalled(t *testing.T) {
	a, b := newPhone(t, "u1"), newPhone(t, "u1")
	a.register()
	b.register()
	answering := b.script("answer-reinvite").Start(t)
	a.calls(b, "call-reinvite").Must(t)
	must(t, answering)
}

func TestStrangerIsRefused(t *testing.T) {
	a, b := newPhone(t, "u1"), newPhone(t, "u1")
	b.register()
	a.calls(b, "call-403").Must(t) // never registered
}

// Rubbish on the SIP ports is answered or dropped, and the phones after it are served.
func TestRubbishOnSIPPorts(t *testing.T) {
	for _, text := range []string{
		"", "\r\n\r\n", "hello\r\n\r\n", strings.Repeat("x", 60000), "INVITE sip:a@b SIP/2.0\r\n\r\n",
		"REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 1.2.3.4\r\nContent-Length: 99999999\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n",
	} {
		for _, network := range []string{"udp", "tcp"} {
			c, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(t.Context(), network, shared.Proxies[0])
			if err != nil {
				t.Fatalf("dialling: %v", err)
			}
			_, _ = c.Write([]byte(text)) // the edge may have closed
			_ = c.Close()
		}
	}
	newPhone(t, "u1").register()
	newPhone(t, "t1").register()
}

func TestRubbishOnHTTPPorts(t *testing.T) {
	for name, c := range map[string]struct {
		method, url, body string
		want              int
	}{
		"timers of the router":  {"POST", "http://" + shared.Address("router-1") + ":9888/timers", "{", 400},
		"registrations":         {"DELETE", "http://" + shared.Address("router-1") + ":9888/registrations?send-notifications=true", "[]", 400},
		"registrations, method": {"GET", "http://" + shared.Address("router-1") + ":9888/registrations", "", 405},
		"timer":                 {"POST", "http://" + shared.Address("store-1") + ":7253/timers", `{"timing":{}}`, 400},
		"private":               {"PUT", "http://" + shared.Address("diameter-1") + ":8889/private/x", "{", 400},
		"irs":                   {"GET", "http://" + shared.Address("diameter-1") + ":8889/irs/nonsense/public_ids", "", 404},
		"vector":                {"GET", "http://" + shared.Address("diameter-1") + ":8888/impi/nobody/av?impu=sip:nobody@x", "", 404},
		"simservs":              {"PUT", "http://" + shared.Address("xdms-1") + ":7888/org.etsi.ngn.simservs/users/sip%3Aa%40b/simservs.xml", "<a", 400},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), c.method, c.url, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != c.want {
				t.Errorf("%s %s: %d, want %d", c.method, c.url, resp.StatusCode, c.want)
			}
		})
	}
}
