package cx_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/cx"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/peer"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

// routers notes what it is told.
type routers struct {
	told []string
	err  error
}

func (r *routers) Deregister(_ context.Context, list []cx.Registration, notify bool) error {
	for _, one := range list {
		r.told = append(r.told, fmt.Sprintf("%s %s %t", one.Primary, one.IMPI, notify))
	}
	return r.err
}

func (r *routers) Push(_ context.Context, primary, text string) error {
	r.told = append(r.told, fmt.Sprintf("%s %d", primary, len(text)))
	return r.err
}

func (r *routers) take() string {
	slices.Sort(r.told)
	out := strings.Join(r.told, ", ")
	r.told = nil
	return out
}

func terminate(impi string, reason uint32, add func(b *wire.Builder)) wire.Message {
	b := wire.NewRequest(nil, wire.RegistrationTermination, wire.Cx, wire.FlagProxiable).Text(wire.SessionID, "hss1;1;2").
		Begin(wire.VendorSpecificApplicationID).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.AuthApplicationID, wire.Cx).End().
		Uint32(wire.AuthSessionState, 1).Text(wire.OriginHost, "hss1.hss.test").Text(wire.OriginRealm, "hss.test").
		Text(wire.DestinationHost, "gw.ims.test").Text(wire.DestinationRealm, "ims.test").Text(wire.UserName, impi).
		Begin(wire.DeregistrationReason).Uint32(wire.ReasonCode, reason).End()
	if add != nil {
		add(b)
	}
	return done(b)
}

func push(impi, text string, add func(b *wire.Builder)) wire.Message {
	b := wire.NewRequest(nil, wire.PushProfile, wire.Cx, wire.FlagProxiable).Text(wire.SessionID, "hss1;1;3").
		Begin(wire.VendorSpecificApplicationID).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.AuthApplicationID, wire.Cx).End().
		Uint32(wire.AuthSessionState, 1).Text(wire.OriginHost, "hss1.hss.test").Text(wire.OriginRealm, "hss.test").
		Text(wire.DestinationHost, "gw.ims.test").Text(wire.DestinationRealm, "ims.test").Text(wire.UserName, impi)
	if text != "" {
		b.Text(wire.UserData, text)
	}
	if add != nil {
		add(b)
	}
	return done(b)
}

// serve gives a request of the HSS to the client, after it was checked like those of peers, and checks the answer.
func (b *bench) serve(t *testing.T, handler peer.Handler, m wire.Message) string {
	t.Helper()
	if fault := b.far.dict.Validate(m); fault != nil {
		t.Fatalf("the request is not valid: %v", fault)
	}
	answer := handler(t.Context(), m)
	if fault := b.far.dict.Validate(answer); fault != nil {
		t.Errorf("the answer is not valid: %v", fault)
	}
	if answer.Text(wire.SessionID) != m.Text(wire.SessionID) || answer.Text(wire.OriginHost) != "gw.ims.test" || answer.Request() {
		t.Errorf("answer % x", []byte(answer))
	}
	if group, ok := answer.Find(wire.ExperimentalResult); ok {
		data, _ := wire.Find(group, wire.ExperimentalResultCode)
		code, _ := wire.Number(data)
		return fmt.Sprintf("exp %d", code)
	}
	code, _ := answer.Uint32(wire.ResultCode)
	return fmt.Sprint(code)
}

func TestTermination(t *testing.T) {
	for name, c := range map[string]struct {
		m    wire.Message
		code string
		told string
		left string // private identities of which a REGISTER still finds its profile
	}{
		"of a device":             {terminate("a@ims.test", 0, nil), "2001", "sip:a@ims.test a@ims.test true", "tablet@ims.test b@ims.test"},
		"moved to another S-CSCF": {terminate("a@ims.test", 1, nil), "2001", "sip:a@ims.test a@ims.test false", "tablet@ims.test b@ims.test"},
		"S-CSCF changes":          {terminate("a@ims.test", 2, nil), "2001", "sip:a@ims.test a@ims.test true", "tablet@ims.test b@ims.test"},
		"remove S-CSCF":           {terminate("a@ims.test", 3, nil), "2001", "sip:a@ims.test a@ims.test false", "tablet@ims.test b@ims.test"},
		"of all devices": {terminate("a@ims.test", 0, func(b *wire.Builder) {
			b.Begin(wire.AssociatedIdentities).Text(wire.UserName, "tablet@ims.test").Text(wire.UserName, "a@ims.test").End()
		}), "2001", "sip:a@ims.test a@ims.test true, sip:a@ims.test tablet@ims.test true", "b@ims.test"},
		"of a public identity": {terminate("tablet@ims.test", 0, func(b *wire.Builder) { b.Text(wire.PublicIdentity, "tel:+15550001") }),
			"2001", "sip:a@ims.test tablet@ims.test true", "a@ims.test b@ims.test"},
		"unknown device":          {terminate("x@ims.test", 0, nil), "exp 5001", "", "a@ims.test tablet@ims.test b@ims.test"},
		"unknown public identity": {terminate("a@ims.test", 0, func(b *wire.Builder) { b.Text(wire.PublicIdentity, "sip:x@ims.test") }), "exp 5001", "", "a@ims.test tablet@ims.test b@ims.test"},
		"of somebody else's": {terminate("a@ims.test", 0, func(b *wire.Builder) { b.Text(wire.PublicIdentity, "sip:b@ims.test") }),
			"exp 5001", "", "a@ims.test tablet@ims.test b@ims.test"},
	} {
		t.Run(name, func(t *testing.T) {
			b, r := newBench(t), &routers{}
			b.far.answer = profiles
			b.assign(t, hss.Reg, "a@ims.test", "sip:a@ims.test")
			b.assign(t, hss.Reg, "tablet@ims.test", "sip:a@ims.test")
			b.assign(t, hss.Reg, "b@ims.test", "sip:b@ims.test")
			if got := b.serve(t, b.Serve(r), c.m); got != c.code {
				t.Errorf("answered %s", got)
			}
			if got := r.take(); got != c.told {
				t.Errorf("routers were told %q, want %q", got, c.told)
			}
			var left []string
			for _, impi := range []string{"a@ims.test", "tablet@ims.test", "b@ims.test"} {
				impu := map[bool]string{true: "sip:b@ims.test", false: "sip:a@ims.test"}[impi == "b@ims.test"]
				if b.authorize(t, func(q *hss.AuthorizeRequest) { q.Impi, q.Impu, q.WantVector = impi, impu, false }).GetRegData() != nil {
					left = append(left, impi)
				}
			}
			if got := strings.Join(left, " "); got != c.left {
				t.Errorf("left are %q, want %q", got, c.left)
			}
		})
	}
}

// profiles answers a SAR for b with a set of its own.
func profiles(m wire.Message) (wire.Message, error) {
	if m.Command() == wire.ServerAssignment && m.Text(wire.PublicIdentity) == "sip:b@ims.test" {
		return done(start(m).Uint32(wire.ResultCode, 2001).Text(wire.UserData, `<IMSSubscription><ServiceProfile><PublicIdentity><Identity>sip:b@ims.test</Identity></PublicIdentity></ServiceProfile></IMSSubscription>`)), nil
	}
	return nil, nil
}

// TestTerminationFails: what no router could do is not forgotten, so that the HSS can ask again.
func TestTerminationFails(t *testing.T) {
	b, r := newBench(t), &routers{err: errors.New("away")}
	b.assign(t, hss.Reg, "a@ims.test", "sip:a@ims.test")
	if got := b.serve(t, b.Serve(r), terminate("a@ims.test", 0, nil)); got != "5012" {
		t.Errorf("answered %s", got)
	}
	r.err = nil
	if got := b.serve(t, b.Serve(r), terminate("a@ims.test", 0, nil)); got != "2001" {
		t.Errorf("asked again, answered %s", got)
	}
}

func TestTerminationOfUnregisteredService(t *testing.T) {
	b, r := newBench(t), &routers{}
	b.assign(t, hss.Call, "", "sip:a@ims.test")
	m := terminate("a@ims.test", 3, func(b *wire.Builder) { b.Text(wire.PublicIdentity, "sip:a@ims.test") })
	if got := b.serve(t, b.Serve(r), m); got != "2001" {
		t.Errorf("answered %s", got)
	}
	if _, result, _ := b.State(t.Context(), "sip:a@ims.test"); result != hss.Result_RESULT_UNKNOWN {
		t.Error("still served")
	}
}

func TestPush(t *testing.T) {
	// the tel: identity goes, another comes
	changed := strings.ReplaceAll(profile, "tel:+15550001", "sip:alias@ims.test")
	other := strings.ReplaceAll(profile, "sip:a@ims.test", "sip:zzz@ims.test")
	charging := func(b *wire.Builder) { b.Begin(wire.ChargingInformation).Text(wire.PrimaryCharging, "aaa://new").End() }
	for name, c := range map[string]struct {
		m       wire.Message
		code    string
		told    string
		profile string // afterwards, of sip:a
		ccf     string
	}{
		"profile":             {push("a@ims.test", changed, nil), "2001", fmt.Sprintf("sip:a@ims.test %d", len(changed)), changed, "aaa://ccf1"},
		"charging":            {push("a@ims.test", "", charging), "2001", "", profile, "aaa://new"},
		"both":                {push("a@ims.test", changed, charging), "2001", fmt.Sprintf("sip:a@ims.test %d", len(changed)), changed, "aaa://new"},
		"user not known here": {push("x@ims.test", strings.NewReplacer("sip:a@", "sip:x@", "sip:hidden", "sip:x2", "15550001", "1555").Replace(profile), nil), "2001", "", profile, "aaa://ccf1"},
		"other default":       {push("a@ims.test", other, nil), "5012", "", profile, "aaa://ccf1"},
		"no profile":          {push("a@ims.test", "<IMSSubscription>", nil), "exp 5009", "", profile, "aaa://ccf1"},
	} {
		t.Run(name, func(t *testing.T) {
			b, r := newBench(t), &routers{}
			b.assign(t, hss.Reg, "a@ims.test", "sip:a@ims.test")
			if got := b.serve(t, b.Serve(r), c.m); got != c.code {
				t.Errorf("answered %s", got)
			}
			if got := r.take(); got != c.told {
				t.Errorf("routers were told %q", got)
			}
			data, _, _ := b.State(t.Context(), "sip:a@ims.test")
			if data.GetImsSubscription() != c.profile || len(data.GetCcfs()) == 0 || data.GetCcfs()[0] != c.ccf {
				t.Errorf("data %v", data)
			}
			_, tel, _ := b.State(t.Context(), "tel:+15550001")
			_, alias, _ := b.State(t.Context(), "sip:alias@ims.test")
			if isChanged := c.profile == changed; (tel == hss.Result_RESULT_OK) == isChanged || (alias == hss.Result_RESULT_OK) != isChanged {
				t.Errorf("the old identity: %v, the new one: %v", tel, alias)
			}
		})
	}
}

func TestHTTPRouters(t *testing.T) {
	var got []string
	status := http.StatusOK
	server := func() netip.AddrPort {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			got = append(got, r.Method+" "+r.URL.RequestURI()+" "+string(text))
			w.WriteHeader(status)
		}))
		t.Cleanup(s.Close)
		return netip.MustParseAddrPort(strings.TrimPrefix(s.URL, "http://"))
	}
	dead := netip.MustParseAddrPort("127.38.0.4:1")
	a, b := server(), server()
	list := []netip.AddrPort{dead, a, b}
	h := &cx.HTTPRouters{Client: http.DefaultClient, Find: func(context.Context) ([]netip.AddrPort, error) { return list, nil }}
	if err := h.Deregister(t.Context(), []cx.Registration{{"sip:a@ims.test", "a@ims.test"}, {"sip:b@ims.test", ""}}, true); err != nil || len(got) != 1 {
		t.Fatalf("%v, got %v", err, got)
	}
	if got[0] != `DELETE /registrations?send-notifications=true {"registrations":[{"primary-impu":"sip:a@ims.test","impi":"a@ims.test"},{"primary-impu":"sip:b@ims.test"}]}` {
		t.Errorf("got %s", got[0])
	}
	got = nil
	if err := h.Push(t.Context(), "sip:a@ims.test", "<x/>"); err != nil || len(got) != 1 || !strings.HasPrefix(got[0], "PUT /registrations/sip:a@ims.test ") {
		t.Fatalf("%v, got %v", err, got)
	}
	var body map[string]string
	if err := json.Unmarshal([]byte(got[0][strings.Index(got[0], "{"):]), &body); err != nil || body["user-data-xml"] != "<x/>" {
		t.Errorf("body %v", body)
	}
	got, status = nil, http.StatusServiceUnavailable
	if err := h.Push(t.Context(), "sip:a@ims.test", "<x/>"); err == nil || len(got) != 2 {
		t.Errorf("%v after %d attempts: a router that fails gives way to the next", err, len(got))
	}
	got, status = nil, http.StatusBadRequest
	if err := h.Push(t.Context(), "sip:a@ims.test", "<x/>"); err == nil || len(got) != 1 {
		t.Errorf("%v after %d attempts: a refusal is final", err, len(got))
	}
	list = nil
	if err := h.Push(t.Context(), "sip:a@ims.test", "<x/>"); err == nil {
		t.Error("no router, and no error")
	}
}

// TestAssignmentsAreLegal walks at random through registrations of three devices of one set, calls, time-outs, passing
// time, RTR and failures of the HSS, and checks every Server-Assignment against what the HSS believes (TS 29.228 6.1.2):
// no registration of who is registered, no re-registration or deregistration of who is not, no unregistered service over
// a registration. What the client says of the state must be what the HSS believes.
func TestAssignmentsAreLegal(t *testing.T) {
	b, r := newBench(t), &routers{}
	random := rand.New(rand.NewPCG(38, 5)) //nolint:gosec // a test
	believed := map[string]bool{}          // devices that the HSS holds registered
	unregistered := false
	failing, events, sent := false, 0, map[uint32]int{}
	b.far.answer = func(m wire.Message) (wire.Message, error) {
		if failing {
			if random.IntN(2) == 0 {
				return nil, peer.ErrTimeout
			}
			return done(start(m).Uint32(wire.ResultCode, []uint32{3004, 5012}[random.IntN(2)])), nil
		}
		if m.Command() != wire.ServerAssignment {
			return nil, nil
		}
		kind, _ := m.Uint32(wire.ServerAssignmentType)
		device := m.Text(wire.UserName)
		sent[kind]++
		switch kind {
		case 1:
			if believed[device] {
				t.Fatalf("event %d: REGISTRATION of %s, who is registered", events, device)
			}
			believed[device], unregistered = true, false
		case 2:
			if !believed[device] {
				t.Fatalf("event %d: RE_REGISTRATION of %s, who is not registered", events, device)
			}
		case 3:
			if len(believed) > 0 || unregistered {
				t.Fatalf("event %d: UNREGISTERED_USER over %v, %v", events, believed, unregistered)
			}
			unregistered = true
		case 4, 5, 8:
			if !believed[device] && !unregistered {
				t.Fatalf("event %d: deregistration %d of %s, who is not registered", events, kind, device)
			}
			if delete(believed, device); device == "" {
				unregistered = false
			}
		default:
			t.Fatalf("event %d: assignment %d", events, kind)
		}
		return nil, nil
	}
	devices := []string{"a@ims.test", "b@ims.test", "c@ims.test"}
	handler := b.Serve(r)
	for events = range 5000 {
		device := devices[random.IntN(3)]
		impu := []string{"sip:a@ims.test", "tel:+15550001"}[random.IntN(2)]
		failing = random.IntN(10) == 0
		switch random.IntN(8) {
		case 0, 1, 2:
			b.authorize(t, func(q *hss.AuthorizeRequest) { q.Impi, q.Impu = device, impu })
			b.assign(t, hss.Reg, device, impu)
		case 3:
			b.assign(t, hss.Call, "", impu)
		case 4:
			_, _ = b.Locate(t.Context(), &hss.LocateRequest{Impu: impu})
		case 5:
			// the store's record says who is registered; a device that is not has nothing to deregister
			if believed[device] {
				b.assign(t, []string{hss.DeregUser, hss.DeregTimeout, hss.DeregAdmin}[random.IntN(3)], device, impu)
			}
		case 6:
			failing = false
			if random.IntN(4) == 0 {
				if code := b.serve(t, handler, terminate(device, 0, nil)); (code == "2001") != believed[device] {
					t.Fatalf("event %d: RTR of %s is answered %s, believed %v", events, device, code, believed)
				}
				delete(believed, device)
			}
		case 7:
			b.now = b.now.Add(time.Duration(random.IntN(900)) * time.Second)
		}
		want := hss.NotRegistered
		switch {
		case len(believed) > 0:
			want = hss.Registered
		case unregistered:
			want = hss.Unregistered
		}
		data, _, _ := b.State(t.Context(), impu)
		got := data.GetState()
		if got == "" {
			got = hss.NotRegistered
		}
		if got != want {
			// Only time may make the client forget: then the HSS is told anew, or remembers.
			if got != hss.NotRegistered {
				t.Fatalf("event %d: state %s, the HSS believes %s", events, got, want)
			}
			clear(believed)
			unregistered = false
		}
	}
	for _, kind := range []uint32{1, 2, 3, 4, 5, 8} {
		if sent[kind] < 5 {
			t.Errorf("the walk sent only %d assignments of type %d", sent[kind], kind)
		}
	}
}
