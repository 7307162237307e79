package functions_test

import (
	"context"
	"crypto/md5" //nolint:gosec // RFC 2617
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss/hsstest"
	"github.com/clearwater-ims/clearwater/nodes/internal/overload"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport/transporttest"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/functions"
	"log/slog"
)

// world is a router with its back ends in memory; edge is the P-CSCF in front of it, played by hand.
type world struct {
	t          *testing.T
	edge       *proxytest.Peer
	router     *functions.Router
	second     *functions.Router // another node of the same cluster, at 10.1.0.3
	hss        *hsstest.HSS
	store      *registrations.Memory
	challenges *records.Memory
	broken     *failingStore        // challenges, as the routers see them
	counts     *prometheus.Registry // of the first
	cseq       int
}

const (
	icscf = "tcp:10.1.0.1:5052"
	scscf = "tcp:10.1.0.1:5054"
)

func in(t *testing.T, options string, test func(w *world)) {
	t.Helper()
	run(t, options, func() *overload.Limiter { return nil }, test)
}

// inLimited is in with overload control.
func inLimited(t *testing.T, limiter func() *overload.Limiter, test func(w *world)) {
	t.Helper()
	run(t, "", limiter, test)
}

func run(t *testing.T, options string, limiter func() *overload.Limiter, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		o, _, err := config.Parse(
			config.File{Name: config.LocalFile, Text: "local_ip=10.1.0.1\npublic_ip=10.1.0.1\npublic_hostname=router-1.site1.ims.test\nnode_role=router\ndeployment_id=d\ndns_zone=ims.test"},
			config.File{Name: config.SharedFile, Text: "home_domain=ims.test\nnonce_key=k\n" + options})
		if err != nil {
			t.Fatal(err)
		}
		n := transporttest.NewNetwork(t)
		w := &world{t: t, hss: hsstest.New("ims.test", "sip:scscf.router.ims.test;transport=TCP"), store: registrations.NewMemory(), challenges: records.NewMemory()}
		w.broken = &failingStore{Memory: w.challenges}
		w.hss.Add("alice@ims.test", "secret", "sip:alice@ims.test", "tel:+15551")
		w.hss.Add("bob@ims.test", "secret", "sip:bob@ims.test")
		w.counts = prometheus.NewRegistry()
		router := func(addr string, counts *prometheus.Registry) *functions.Router {
			o := *o
			o.LocalIP, o.PublicIP = addr, addr
			node := n.Node(nil, transporttest.TCP("", addr+":5054"), transporttest.TCP("", addr+":5052"), transporttest.UDP("", addr+":5054"))
			r := functions.New(&o, functions.Deps{
				HSS: w.hss, Store: w.store, Challenges: w.broken, Now: time.Now, Log: slog.New(slog.DiscardHandler), Metrics: counts, Wire: node, Limiter: limiter(),
				Resolver: proxytest.Names{
					"gateway.test": {"tcp:10.1.0.9:5060"}, "elsewhere.test": {"tcp:10.1.0.9:5060"},
					"one.test": {"tcp:10.1.0.11:5054"}, "two.test": {"tcp:10.1.0.12:5054"}, "away.test": {"tcp:10.1.0.99:5054"},
				},
			})
			node.Handle(r.Core)
			return r
		}
		w.router, w.second = router("10.1.0.1", w.counts), router("10.1.0.3", prometheus.NewRegistry())
		done := make(chan struct{}, 2)
		for _, r := range []*functions.Router{w.router, w.second} {
			go func() { defer func() { done <- struct{}{} }(); _ = r.Run(ctx) }()
		}
		w.edge = proxytest.NewPeer(t, n, "10.1.0.2:5058")
		test(w)
		synctest.Wait() // what is on its way arrives
		if held := w.router.Core.Held(); held != 0 {
			t.Errorf("%d transactions are left without a final response", held)
		}
		cancel()
		<-done
		<-done
	})
}

func digest(parts ...string) string {
	sum := md5.Sum([]byte(strings.Join(parts, ":"))) //nolint:gosec // RFC 2617
	return hex.EncodeToString(sum[:])
}

var nonceIn = regexp.MustCompile(`nonce="([^"]+)"`)

// answer makes an Authorization header for a challenge.
func answer(challenge *sip.Message, user, password string) string {
	nonce := nonceIn.FindStringSubmatch(challenge.Get(sip.WWWAuthenticate))[1]
	response := digest(digest(user+"@ims.test", "ims.test", password), nonce, "00000001", "cn", "auth", digest("REGISTER", "sip:ims.test"))
	return fmt.Sprintf(`Authorization: Digest username="%s@ims.test",realm="ims.test",nonce="%s",uri="sip:ims.test",response="%s",qop=auth,nc=00000001,cnonce="cn"`, user, nonce, response)
}

func (w *world) registerText(user, callID string, headers ...string) string {
	w.cseq++
	return fmt.Sprintf(`
REGISTER sip:ims.test SIP/2.0
Route: <sip:icscf.router.ims.test;transport=TCP;lr>
From: <sip:%[1]s@ims.test>;tag=%[1]s
To: <sip:%[1]s@ims.test>
Call-ID: %[2]s
CSeq: %[3]d REGISTER
Path: <sip:flow-%[2]s@10.1.0.2:5058;transport=TCP;lr;ob>
%[4]s
`, user, callID, w.cseq, strings.Join(headers, "\n"))
}

// register registers a phone and returns the 200.
func (w *world) register(user, callID string, headers ...string) *sip.Message {
	w.t.Helper()
	w.edge.Send(icscf, w.registerText(user, callID, headers...))
	challenge := w.edge.Expect("401")
	w.edge.Send(icscf, w.registerText(user, callID, append(headers, answer(challenge, user, "secret"))...))
	return w.edge.Expect("200")
}

func TestRegister(t *testing.T) {
	in(t, "", func(w *world) {
		ok := w.register("alice", "c1", `Contact: <sip:alice@1.2.3.4:5060>;+sip.instance="<urn:uuid:1>";reg-id=1;expires=100000;q=0.5;audio`, "Supported: path, outbound")
		for _, want := range []struct {
			id    sip.ID
			value string
		}{
			{sip.Contact, `<sip:alice@1.2.3.4:5060>;+sip.instance="<urn:uuid:1>";reg-id=1;audio;q=0.5;expires=300`},
			{sip.ServiceRoute, "<sip:scscf.router.ims.test;transport=TCP;lr;orig>"},
			{sip.Path, "<sip:flow-c1@10.1.0.2:5058;transport=TCP;lr;ob>"},
			{sip.Require, "outbound"},
		} {
			if got := ok.Get(want.id); got != want.value {
				t.Errorf("%s = %q, want %q", want.id, got, want.value)
			}
		}
		if got := ok.All(sip.PAssociatedURI); len(got) != 2 || got[0] != "<sip:alice@ims.test>" || got[1] != "<tel:+15551>" {
			t.Errorf("P-Associated-URI %q", got)
		}
		if a, s := w.hss.Calls("authorize"), w.store.Swaps(); a != 2 || s != 1 {
			t.Errorf("challenge and registration took %d questions and %d swaps, want 2 and 1", a, s)
		}
		second := w.register("alice", "c2", "Contact: <sip:alice@5.6.7.8>", "Expires: 60")
		if got := second.All(sip.Contact); len(got) != 2 || second.Has(sip.Require) {
			t.Errorf("after a second phone: %q, Require %q", got, second.Get(sip.Require))
		}
	})
}

func TestRegisterAgainCostsOneQuestionAndOneSwap(t *testing.T) {
	in(t, "nonce_count_supported=Y", func(w *world) {
		w.edge.Send(icscf, w.registerText("alice", "c1", "Contact: <sip:alice@1.2.3.4>"))
		challenge := w.edge.Expect("401")
		authorization := answer(challenge, "alice", "secret")
		w.edge.Send(icscf, w.registerText("alice", "c1", "Contact: <sip:alice@1.2.3.4>", authorization))
		w.edge.Expect("200")
		questions, swaps := w.hss.Calls("authorize"), w.store.Swaps()
		nonce := nonceIn.FindStringSubmatch(challenge.Get(sip.WWWAuthenticate))[1]
		response := digest(digest("alice@ims.test", "ims.test", "secret"), nonce, "00000002", "cn", "auth", digest("REGISTER", "sip:ims.test"))
		w.edge.Send(icscf, w.registerText("alice", "c1", "Contact: <sip:alice@1.2.3.4>",
			fmt.Sprintf(`Authorization: Digest username="alice@ims.test",realm="ims.test",nonce="%s",uri="sip:ims.test",response="%s",qop=auth,nc=00000002,cnonce="cn"`, nonce, response)))
		w.edge.Expect("200")
		if q, s := w.hss.Calls("authorize")-questions, w.store.Swaps()-swaps; q != 1 || s != 1 {
			t.Errorf("%d questions and %d swaps, want 1 and 1", q, s)
		}
		// The same nonce-count again is a replay.
		w.edge.Send(icscf, w.registerText("alice", "c1", "Contact: <sip:alice@1.2.3.4>",
			fmt.Sprintf(`Authorization: Digest username="alice@ims.test",realm="ims.test",nonce="%s",uri="sip:ims.test",response="%s",qop=auth,nc=00000002,cnonce="cn"`, nonce, response)))
		if c := w.edge.Expect("401"); !strings.Contains(c.Get(sip.WWWAuthenticate), "stale=true") {
			t.Error("a replay is challenged without stale=true")
		}
	})
}

func TestRegisterRefused(t *testing.T) {
	contact := "Contact: <sip:alice@1.2.3.4>"
	in(t, "", func(w *world) {
		challenge := func(user string) *sip.Message {
			w.edge.Send(icscf, w.registerText(user, "c", contact))
			return w.edge.Expect("401")
		}
		c := challenge("alice")
		w.edge.Send(icscf, w.registerText("alice", "c", contact, answer(c, "alice", "wrong")))
		w.edge.Expect("403")
		if got := w.hss.Assignments(); len(got) != 1 || got[0].GetReqtype() != hss.DeregAuthFailed {
			t.Errorf("the HSS heard %v", got)
		}
		good := answer(c, "alice", "secret")
		w.edge.Send(icscf, w.registerText("alice", "c", contact, good))
		w.edge.Expect("200")
		w.edge.Send(icscf, w.registerText("alice", "c", contact, good)) // one use
		if again := w.edge.Expect("401"); !strings.Contains(again.Get(sip.WWWAuthenticate), "stale=true") {
			t.Error("a used nonce is challenged without stale=true")
		}
		late := answer(challenge("alice"), "alice", "secret")
		time.Sleep(41 * time.Second)
		w.edge.Send(icscf, w.registerText("alice", "c", contact, late))
		if again := w.edge.Expect("401"); !strings.Contains(again.Get(sip.WWWAuthenticate), "stale=true") {
			t.Error("an old nonce is challenged without stale=true")
		}
		bobs := answer(challenge("bob"), "alice", "secret") // bob's nonce under alice's name
		w.edge.Send(icscf, w.registerText("alice", "c", contact, bobs))
		w.edge.Expect("401")
		w.edge.Send(icscf, w.registerText("nobody", "c", contact))
		w.edge.Expect("403")
		w.edge.Send(icscf, strings.Replace(w.registerText("alice", "c", contact), "To: <sip:alice@ims.test>", "To: <mailto:alice@ims.test>", 1))
		w.edge.Expect("403")
		w.hss.Fail(hss.Result_RESULT_UNAVAILABLE)
		w.edge.Send(icscf, w.registerText("alice", "c", contact))
		if m := w.edge.Expect("504"); m.Get(sip.Warning) == "" {
			t.Error("an outage without a reason")
		}
	})
}

func TestRegisterContacts(t *testing.T) {
	for name, c := range map[string]struct {
		headers []string
		status  string
	}{
		"star without expires": {[]string{"Contact: *"}, "400"},
		"star with another":    {[]string{"Contact: *", "Contact: <sip:a@b>", "Expires: 0"}, "400"},
		"malformed":            {[]string{"Contact: <sip:a@b"}, "400"},
		"star":                 {[]string{"Contact: *", "Expires: 0"}, "200"},
		"fetch":                {nil, "200"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, "", func(w *world) {
				w.register("alice", "c1", "Contact: <sip:alice@1.2.3.4>")
				w.edge.Send(icscf, w.registerText("alice", "c1"))
				a := answer(w.edge.Expect("401"), "alice", "secret")
				w.edge.Send(icscf, w.registerText("alice", "c1", append(c.headers, a)...))
				m := w.edge.Expect(c.status)
				if name == "fetch" && m.Count(sip.Contact) != 1 {
					t.Errorf("fetch shows %q", m.All(sip.Contact))
				}
				if name == "star" {
					synctest.Wait()
					if got := w.hss.Assignments(); m.Has(sip.Contact) || len(got) != 1 || got[0].GetReqtype() != hss.DeregUser {
						t.Errorf("after Contact: * the HSS heard %v, contacts %q", got, m.All(sip.Contact))
					}
				}
			})
		})
	}
}

func TestExpiry(t *testing.T) {
	in(t, "", func(w *world) {
		w.register("alice", "c1", "Contact: <sip:alice@1.1.1.1>", "Expires: 60")
		w.register("alice", "c2", "Contact: <sip:alice@2.2.2.2>", "Expires: 120")
		expire := func(bindings, told int) {
			t.Helper()
			if err := w.router.Registrar.Expire(t.Context(), "sip:alice@ims.test"); err != nil {
				t.Fatal(err)
			}
			record, _ := w.store.Get(t.Context(), "sip:alice@ims.test")
			if n, calls := len(record.GetBindings()), len(w.hss.Assignments()); n != bindings || calls != told || len(record.GetOwed()) != 0 {
				t.Errorf("%d bindings, HSS told %d times, owed %v; want %d and %d", n, calls, record.GetOwed(), bindings, told)
			}
		}
		expire(2, 0)
		time.Sleep(61 * time.Second)
		expire(1, 0)
		time.Sleep(60 * time.Second)
		w.hss.Fail(hss.Result_RESULT_TIMEOUT)
		if err := w.router.Registrar.Expire(t.Context(), "sip:alice@ims.test"); err == nil {
			t.Error("an expiry that could not be told is taken for done")
		}
		w.hss.Fail(hss.Result_RESULT_OK)
		told := len(w.hss.Assignments())
		expire(0, told+1)
		ids := map[string]bool{}
		for _, a := range w.hss.Assignments() {
			ids[a.GetEffectId()] = true
		}
		if len(ids) != 1 {
			t.Errorf("repeats of one effect carry %d ids", len(ids))
		}
	})
}

// invite is alice's INVITE as the edge sends it.
func invite(to string) string {
	return fmt.Sprintf(`
INVITE %s SIP/2.0
Route: <sip:scscf.router.ims.test;transport=TCP;lr;orig>
Record-Route: <sip:10.1.0.2:5058;transport=TCP;lr>
From: <sip:alice@ims.test>;tag=a
To: <%[1]s>
Call-ID: call
CSeq: 1 INVITE
P-Asserted-Identity: <sip:alice@ims.test>
P-Charging-Vector: icid-value=1
Contact: <sip:alice@1.2.3.4>

v=0
`, to)
}

func TestCall(t *testing.T) {
	for level, routes := range map[string][]string{
		"pcscf":       {"charge-term", "charge-orig"},
		"pcscf,icscf": {"charge-term", "charge-none", "charge-orig"},
	} {
		t.Run(level, func(t *testing.T) {
			in(t, "sprout_rr_level="+level, func(w *world) {
				w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9:1234>")
				w.edge.Send(scscf, invite("sip:bob@ims.test"))
				m := w.edge.Expect("INVITE")
				if m.URI != "sip:bob@9.9.9.9:1234" || m.Get(sip.Route) != "<sip:flow-b1@10.1.0.2:5058;transport=TCP;lr;ob>" || m.Count(sip.Route) != 1 {
					t.Errorf("sent as\n%s", m)
				}
				if m.Get(sip.PCalledPartyID) != "<sip:bob@ims.test>" || m.Get(sip.PChargingVector) != "icid-value=1;orig-ioi=ims.test" || m.Count(sip.Via) != 2 {
					t.Errorf("sent as\n%s", m)
				}
				rr := m.All(sip.RecordRoute)
				if len(rr) != len(routes)+1 {
					t.Fatalf("Record-Route %q, want %q and the edge's", rr, routes)
				}
				for i, role := range routes {
					if !strings.Contains(rr[i], "billing-role="+role+">") {
						t.Errorf("Record-Route %d is %s, want %s", i, rr[i], role)
					}
				}
				w.edge.Reply(m, 180)
				w.edge.Expect("180")
				ok := w.edge.Reply(m, 200, "Contact: <sip:bob@9.9.9.9:1234>")
				w.edge.Expect("200")
				w.inDialog(ok, rr, "ACK", 1)
				w.inDialog(ok, rr, "INVITE", 2)
				w.inDialog(ok, rr, "BYE", 3)
			})
		})
	}
}

// inDialog sends a request of alice through the router's part of the route set, and answers it.
func (w *world) inDialog(ok *sip.Message, rr []string, method string, cseq int) {
	w.t.Helper()
	var routes []string
	for i := len(rr) - 2; i >= 0; i-- { // without the edge's own
		routes = append(routes, "Route: "+rr[i])
	}
	w.edge.Send(scscf, fmt.Sprintf(`
%s sip:bob@9.9.9.9:1234 SIP/2.0
%s
Route: <sip:10.1.0.2:5058;transport=TCP;lr>
From: <sip:alice@ims.test>;tag=a
To: %s
Call-ID: call
CSeq: %d %[1]s
`, method, strings.Join(routes, "\n"), ok.Get(sip.To), cseq))
	m := w.edge.Expect(method)
	if m.Count(sip.Route) != 1 || m.Get(sip.Route) != "<sip:10.1.0.2:5058;transport=TCP;lr>" {
		w.t.Errorf("%s sent as\n%s", method, m)
	}
	if method != "ACK" {
		w.edge.Reply(m, 200)
		w.edge.Expect("200")
	}
	if method == "INVITE" {
		w.inDialog(ok, rr, "ACK", cseq)
	}
}

func TestCallRefused(t *testing.T) {
	in(t, "", func(w *world) {
		w.edge.Send(scscf, invite("sip:bob@ims.test"))
		if m := w.edge.Expect("480"); m.Get(sip.Warning) == "" {
			t.Error("480 without a reason")
		}
	})
	in(t, "", func(w *world) {
		w.edge.Send(scscf, invite("sip:nobody@ims.test"))
		w.edge.Expect("404")
	})
	in(t, "", func(w *world) {
		w.hss.SetBarred("sip:bob@ims.test", true)
		w.edge.Send(scscf, invite("sip:bob@ims.test"))
		w.edge.Expect("404")
	})
	in(t, "", func(w *world) {
		w.hss.Add("mixed@ims.test", "secret", "sip:alice2@ims.test", "sip:other@ims.test")
		w.hss.SetBarred("sip:alice2@ims.test", true)
		w.edge.Send(scscf, strings.ReplaceAll(invite("sip:bob@ims.test"), "alice@ims.test", "alice2@ims.test"))
		w.edge.Expect("403")
	})
	in(t, "", func(w *world) {
		w.hss.FailWith(context.DeadlineExceeded)
		w.edge.Send(scscf, invite("sip:bob@ims.test"))
		w.edge.Expect("504")
	})
	in(t, "", func(w *world) {
		w.edge.Send(scscf, invite("mailto:bob@ims.test"))
		w.edge.Expect("416")
	})
}

func TestFlowFailedRemovesTheBinding(t *testing.T) {
	in(t, "", func(w *world) {
		w.register("bob", "b1", "Contact: <sip:bob@9.9.9.9>")
		w.register("bob", "b2", "Contact: <sip:bob@8.8.8.8>")
		w.edge.Send(scscf, invite("sip:bob@ims.test"))
		for _, m := range []*sip.Message{w.edge.Expect("INVITE"), w.edge.Expect("INVITE")} {
			if strings.Contains(m.Get(sip.Route), "flow-b1") {
				w.edge.Reply(m, 430)
			} else {
				w.edge.Reply(m, 486)
			}
			w.edge.Expect("ACK")
		}
		w.edge.Expect("480")
		synctest.Wait()
		record, _ := w.store.Get(t.Context(), "sip:bob@ims.test")
		if b := record.GetBindings(); len(b) != 1 || b[0].GetUri() != "sip:bob@8.8.8.8" {
			t.Errorf("bindings left: %v", b)
		}
	})
}

func TestNumbersAndForeignDomains(t *testing.T) {
	const routes = `{"routes":[{"name":"d","domain":"*","route":["sip:gateway.test;lr"]},{"name":"n","number":"+44","route":["sip:gateway.test;lr","sip:second.test;lr"]}]}`
	for name, c := range map[string]struct{ to, routes, want string }{
		"own number as tel":   {"tel:+15551", "", "480"},
		"own number as sip":   {"sip:+15551@ims.test;user=phone", "", "480"},
		"number with route":   {"tel:+441234", routes, "<sip:gateway.test;lr> <sip:second.test;lr>"},
		"sip number":          {"sip:+441234@ims.test", routes, "<sip:gateway.test;lr> <sip:second.test;lr>"},
		"ported number":       {"tel:+15559;rn=+4470;npdi", routes, "<sip:gateway.test;lr> <sip:second.test;lr>"},
		"number without":      {"tel:+331234", routes, "404"},
		"domain by star":      {"sip:x@elsewhere.test", routes, "<sip:gateway.test;lr>"},
		"domain by DNS":       {"sip:x@elsewhere.test", "", ""},
		"unresolvable domain": {"sip:x@nowhere.test", "", "404"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, "", func(w *world) {
				if err := w.router.SetRoutes(c.routes); err != nil {
					t.Fatal(err)
				}
				outside := proxytest.NewPeer(t, w.edge.Network(), "10.1.0.9:5060")
				w.edge.Send(scscf, invite(c.to))
				if len(c.want) == 3 {
					w.edge.Expect(c.want)
					return
				}
				m := outside.Expect("INVITE")
				if got := strings.Join(m.All(sip.Route), " "); got != c.want {
					t.Errorf("Route %q, want %q", got, c.want)
				}
				outside.Reply(m, 603)
				outside.Expect("ACK")
				w.edge.Expect("603")
			})
		})
	}
}

func TestOptionsPoll(t *testing.T) {
	in(t, "", func(w *world) {
		w.hss.FailWith(context.DeadlineExceeded)
		ask := func(uri string, routes ...string) {
			for i := range routes {
				routes[i] = "Route: " + routes[i] + "\n"
			}
			w.edge.Send(scscf, "OPTIONS "+uri+" SIP/2.0\n"+strings.Join(routes, "")+"From: <sip:poll@x.test>;tag=1\nTo: <"+uri+">\nCall-ID: "+uri+"\nCSeq: 1 OPTIONS\n")
		}
		for _, uri := range []string{"sip:10.1.0.1:5054", "sip:scscf.router.ims.test", "sip:router.ims.test", "sip:poll-sip@10.1.0.1:5054"} {
			ask(uri)
			w.edge.Expect("200")
		}
		ask("sip:10.1.0.1:5054", "<sip:10.1.0.1:5054;lr>")
		w.edge.Expect("200")
		ask("sip:10.1.0.1:5054", "<sip:10.1.0.1:5054;lr>", "<sip:10.1.0.1:5054;lr>") // two Routes: to be routed
		w.edge.Expect("504")
		ask("sip:alice@ims.test") // to a user: to be routed, and nobody can say where
		w.edge.Expect("504")
	})
}
