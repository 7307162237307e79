package cx_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/cx"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/dictionary"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/peer"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

const (
	ours    = "sip:scscf.router.ims.test;transport=TCP"
	profile = `<?xml version="1.0"?><IMSSubscription><PrivateID>a@ims.test</PrivateID><ServiceProfile>` +
		`<PublicIdentity><BarringIndication>1</BarringIndication><Identity>sip:hidden@ims.test</Identity></PublicIdentity>` +
		`<PublicIdentity><Identity>sip:a@ims.test</Identity></PublicIdentity><PublicIdentity><Identity>tel:+15550001</Identity></PublicIdentity>` +
		`</ServiceProfile></IMSSubscription>`
)

// far is the HSS behind a perfect network: a function from requests to answers.
type far struct {
	t      *testing.T
	dict   *dictionary.Dictionary
	asked  []wire.Message
	answer func(m wire.Message) (wire.Message, error) // may be nil: standard
	serial int
}

func (f *far) SessionID() string { f.serial++; return fmt.Sprintf("gw.ims.test;1;%d", f.serial) }
func (f *far) Host() string      { return "gw.ims.test" }
func (f *far) Realm() string     { return "ims.test" }

// Do answers, after it has checked that the request is one that Cx allows.
func (f *far) Do(_ context.Context, m wire.Message, host string) (wire.Message, error) {
	if fault := f.dict.Validate(m); fault != nil {
		f.t.Errorf("request %d is not valid: %v", m.Command(), fault)
	}
	if state, _ := m.Uint32(wire.AuthSessionState); state != 1 || m.Text(wire.DestinationHost) != host || m.Text(wire.DestinationRealm) != "hss.test" {
		f.t.Errorf("request %d to %q of %q, session state %d", m.Command(), m.Text(wire.DestinationHost), m.Text(wire.DestinationRealm), state)
	}
	f.asked = append(f.asked, slices.Clone(m))
	if f.answer != nil {
		if answer, err := f.answer(m); answer != nil || err != nil {
			return answer, err
		}
	}
	return f.standard(m), nil
}

func (f *far) standard(m wire.Message) wire.Message {
	switch m.Command() {
	case wire.UserAuthorization:
		return done(experimental(start(m), 2001).Begin(wire.ServerCapabilities).End())
	case wire.MultimediaAuth:
		return done(start(m).Uint32(wire.ResultCode, 2001).Text(wire.UserName, m.Text(wire.UserName)).Uint32(wire.SIPNumberAuthItems, 1).
			Begin(wire.SIPAuthDataItem).Text(wire.SIPAuthenticationScheme, "SIP Digest").
			Begin(wire.SIPDigestAuthenticate).Text(wire.DigestRealm, "realm.test").Text(wire.DigestQoP, "auth").Text(wire.DigestHA1, strings.Repeat("ab", 16)).End().End())
	case wire.ServerAssignment:
		return done(start(m).Uint32(wire.ResultCode, 2001).Text(wire.UserData, profile).Begin(wire.ChargingInformation).
			Text(wire.SecondaryCharging, "aaa://ccf2").Text(wire.PrimaryCharging, "aaa://ccf1").Text(wire.PrimaryEventCharging, "aaa://ecf1").End())
	default:
		return done(start(m).Uint32(wire.ResultCode, 2001).Text(wire.ServerName, ours))
	}
}

func start(m wire.Message) *wire.Builder {
	return wire.NewAnswer(m, 0).Begin(wire.VendorSpecificApplicationID).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.AuthApplicationID, wire.Cx).End().
		Uint32(wire.AuthSessionState, 1).Text(wire.OriginHost, "hss1.hss.test").Text(wire.OriginRealm, "hss.test")
}

func experimental(b *wire.Builder, code uint32) *wire.Builder {
	return b.Begin(wire.ExperimentalResult).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.ExperimentalResultCode, code).End()
}

func done(b *wire.Builder) wire.Message {
	m, err := b.Finish()
	if err != nil {
		panic(err)
	}
	return m
}

// take returns what was asked since the last time, as command and what tells it apart.
func (f *far) take() string {
	var out []string
	for _, m := range f.asked {
		switch m.Command() {
		case wire.UserAuthorization:
			kind, _ := m.Uint32(wire.UserAuthorizationType)
			out = append(out, fmt.Sprintf("UAR%d", kind))
		case wire.MultimediaAuth:
			out = append(out, "MAR")
		case wire.ServerAssignment:
			kind, _ := m.Uint32(wire.ServerAssignmentType)
			out = append(out, fmt.Sprintf("SAR%d", kind))
		case wire.LocationInfo:
			out = append(out, "LIR")
		}
	}
	f.asked = nil
	return strings.Join(out, " ")
}

type bench struct {
	*cx.Client
	far  *far
	now  time.Time
	set  cx.Settings
	reg  *prometheus.Registry
	rows *records.Memory
}

func newBenchSettings() cx.Settings {
	return cx.Settings{
		Realm: "hss.test", Host: "hss1.hss.test", HomeDomain: "ims.test", ServerName: ours, Timeout: 200 * time.Millisecond,
		ReAssign: 1800 * time.Second, Registration: 300 * time.Second, Negative: 5 * time.Second,
		Schemes: cx.Schemes{Unknown: "Unknown", Digest: "SIP Digest", AKAv1: "Digest-AKAv1-MD5", AKAv2: "Digest-AKAv2-SHA-256"},
	}
}

func newBench(t *testing.T) *bench {
	t.Helper()
	d, err := dictionary.Load()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{far: &far{t: t, dict: d}, now: time.Unix(1.8e9, 0), reg: prometheus.NewRegistry(), rows: records.NewMemory()}
	b.set = newBenchSettings()
	b.Client = cx.New(cx.Deps{Peers: b.far, Rows: b.rows, Settings: func() cx.Settings { return b.set }, Now: func() time.Time { return b.now }, Log: slog.New(slog.DiscardHandler), Metrics: b.reg})
	return b
}

func (b *bench) authorize(t *testing.T, change func(*hss.AuthorizeRequest)) *hss.AuthorizeResponse {
	t.Helper()
	req := &hss.AuthorizeRequest{Impi: "a@ims.test", Impu: "sip:a@ims.test", VisitedNetwork: "ims.test", AuthType: "REG", WantVector: true, WantProfile: true}
	if change != nil {
		change(req)
	}
	resp, err := b.Authorize(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func (b *bench) assign(t *testing.T, reqtype, impi, impu string) *hss.AssignResponse {
	t.Helper()
	resp, err := b.Assign(t.Context(), &hss.AssignRequest{Impi: impi, Impu: impu, Reqtype: reqtype, ServerName: ours})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestRegistration goes through the life of a registration and counts what the HSS is asked.
func TestRegistration(t *testing.T) {
	b := newBench(t)
	first := b.authorize(t, nil)
	if got := b.far.take(); got != "UAR0 MAR" || first.GetResult() != hss.Result_RESULT_OK || first.GetRegData() != nil || first.GetResultCode() != 2001 || first.GetCapabilities() == nil {
		t.Fatalf("asked %q, answered %v", got, first)
	}
	if d := first.GetDigest(); d.GetHa1() != strings.Repeat("ab", 16) || d.GetRealm() != "realm.test" || d.GetQop() != "auth" {
		t.Errorf("digest %v", d)
	}
	b.now = b.now.Add(10 * time.Second)
	second := b.authorize(t, nil)
	if got := b.far.take(); got != "UAR0" || second.GetDigest().GetHa1() == "" {
		t.Errorf("the answer to the challenge asked %q", got)
	}
	reg := b.assign(t, hss.Reg, "a@ims.test", "tel:+15550001")
	if got := b.far.take(); got != "SAR1" || reg.GetRegData().GetState() != hss.Registered || reg.GetRegData().GetPreviousState() != hss.NotRegistered {
		t.Fatalf("asked %q, answered %v", got, reg)
	}
	d := reg.GetRegData()
	if d.GetImsSubscription() != profile || strings.Join(d.GetCcfs(), " ") != "aaa://ccf1 aaa://ccf2" || strings.Join(d.GetEcfs(), " ") != "aaa://ecf1" {
		t.Errorf("data %v", d)
	}
	// every identity of the set leads to it, barred ones too; case of the host does not matter
	for _, impu := range []string{"sip:a@ims.test", "sip:hidden@ims.test", "tel:+15550001", "sip:a@IMS.test"} {
		if got := b.assign(t, hss.Reg, "a@ims.test", impu); got.GetRegData().GetPreviousState() != hss.Registered || b.far.take() != "" {
			t.Errorf("%s: asked again, or %v", impu, got)
		}
		if data, result, _ := b.State(t.Context(), impu); result != hss.Result_RESULT_OK || data.GetState() != hss.Registered {
			t.Errorf("%s: state %v", impu, data)
		}
	}
	b.now = b.now.Add(1000 * time.Second)
	if third := b.authorize(t, nil); third.GetRegData().GetState() != hss.Registered || b.far.take() != "UAR0 MAR" {
		t.Errorf("re-registration: %v", third)
	}
	b.now = b.now.Add(801 * time.Second)
	if fourth := b.authorize(t, func(q *hss.AuthorizeRequest) { q.WantVector = false }); fourth.GetRegData() != nil || b.far.take() != "UAR0" {
		t.Errorf("after hss_reregistration_time the profile comes from the cache: %v", fourth)
	}
	if again := b.assign(t, hss.Reg, "a@ims.test", "sip:a@ims.test"); b.far.take() != "SAR2" || again.GetRegData().GetPreviousState() != hss.Registered {
		t.Errorf("re-registration: %v", again)
	}
	if gone := b.assign(t, hss.DeregUser, "a@ims.test", "sip:a@ims.test"); b.far.take() != "SAR5" || gone.GetRegData().GetState() != hss.NotRegistered {
		t.Errorf("deregistration: %v", gone)
	}
	if _, result, _ := b.State(t.Context(), "tel:+15550001"); result != hss.Result_RESULT_UNKNOWN {
		t.Error("it is remembered after the end")
	}
	if resp := b.assign(t, hss.DeregTimeout, "a@ims.test", "sip:a@ims.test"); resp.GetResult() != hss.Result_RESULT_NOT_REGISTERED || b.far.take() != "" {
		t.Errorf("a second deregistration: %v", resp)
	}
	if rows, _, _ := b.rows.Scan(t.Context(), "cx", "", "", 0); len(rows) != 0 {
		t.Errorf("%d rows are left, the first %s", len(rows), rows[0].GetKey())
	}
	if problems, err := testutil.GatherAndLint(b.reg); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestSubscriptionsLapse(t *testing.T) {
	b := newBench(t)
	b.assign(t, hss.Reg, "a@ims.test", "sip:a@ims.test")
	b.far.take()
	b.now = b.now.Add(3599 * time.Second)
	if resp := b.assign(t, hss.Call, "", "sip:a@ims.test"); b.far.take() != "" || resp.GetRegData().GetState() != hss.Registered {
		t.Errorf("before its end: %v", resp)
	}
	b.now = b.now.Add(2 * time.Second)
	if resp := b.assign(t, hss.Call, "", "sip:a@ims.test"); b.far.take() != "SAR3" || resp.GetRegData().GetState() != hss.Unregistered {
		t.Errorf("after its end: %v", resp)
	}
	b.set.ReAssign, b.set.Registration = time.Second, 600*time.Second
	b.assign(t, hss.Reg, "a@ims.test", "sip:a@ims.test")
	b.far.take()
	b.now = b.now.Add(609 * time.Second)
	if b.assign(t, hss.Call, "", "sip:a@ims.test"); b.far.take() != "" {
		t.Error("it must live longer than the longest registration")
	}
}

// TestSeveralDevices: private identities of one set come and go each for itself.
func TestSeveralDevices(t *testing.T) {
	b := newBench(t)
	b.assign(t, hss.Reg, "a@ims.test", "sip:a@ims.test")
	if second := b.assign(t, hss.Reg, "tablet@ims.test", "sip:a@ims.test"); b.far.take() != "SAR1 SAR1" || second.GetRegData().GetPreviousState() != hss.Registered {
		t.Errorf("second device: %v", second)
	}
	b.assign(t, hss.DeregTimeout, "a@ims.test", "sip:a@ims.test")
	if got := b.far.take(); got != "SAR4" {
		t.Errorf("asked %q", got)
	}
	if data, _, _ := b.State(t.Context(), "sip:a@ims.test"); data.GetState() != hss.Registered {
		t.Errorf("the other device is gone too: %v", data)
	}
	if resp := b.authorize(t, func(q *hss.AuthorizeRequest) { q.Impi, q.WantVector = "tablet@ims.test", false }); resp.GetRegData() == nil {
		t.Error("the other device is not known")
	}
	if resp := b.authorize(t, func(q *hss.AuthorizeRequest) { q.WantVector = false }); resp.GetRegData() != nil {
		t.Error("the first device is still known")
	}
	b.assign(t, hss.DeregAdmin, "tablet@ims.test", "sip:a@ims.test")
	if _, result, _ := b.State(t.Context(), "sip:a@ims.test"); result != hss.Result_RESULT_UNKNOWN {
		t.Error("the set is remembered without a device")
	}
}

func TestQuestions(t *testing.T) {
	b := newBench(t)
	b.authorize(t, func(q *hss.AuthorizeRequest) {
		q.AuthType, q.Scheme, q.Emergency, q.VisitedNetwork = "CAPAB", "aka", true, "visited.test"
	})
	uar, mar := b.far.asked[0], b.far.asked[1]
	flags, _ := uar.Uint32(wire.UARFlags)
	kind, _ := uar.Uint32(wire.UserAuthorizationType)
	if uar.Text(wire.UserName) != "a@ims.test" || uar.Text(wire.PublicIdentity) != "sip:a@ims.test" || uar.Text(wire.VisitedNetworkIdentifier) != "visited.test" || flags != 1 || kind != 2 {
		t.Errorf("UAR % x", []byte(uar))
	}
	item, _ := mar.Find(wire.SIPAuthDataItem)
	scheme, _ := wire.Find(item, wire.SIPAuthenticationScheme)
	count, _ := mar.Uint32(wire.SIPNumberAuthItems)
	if string(scheme) != "Digest-AKAv1-MD5" || mar.Text(wire.ServerName) != ours || count != 1 {
		t.Errorf("MAR with scheme %q", scheme)
	}
	b.far.take()

	resync := []byte("RANDRANDRANDRANDAUTSAUTSAUTSAU")
	b.authorize(t, func(q *hss.AuthorizeRequest) { q.Scheme, q.Resync, q.WantProfile = "aka2", resync, false })
	if len(b.far.asked) != 1 {
		t.Fatalf("a resynchronisation asks %q", b.far.take())
	}
	item, _ = b.far.asked[0].Find(wire.SIPAuthDataItem)
	text, _ := wire.Find(item, wire.SIPAuthorization)
	if scheme, _ := wire.Find(item, wire.SIPAuthenticationScheme); string(text) != string(resync) || string(scheme) != "Digest-AKAv2-SHA-256" {
		t.Errorf("SIP-Authorization %q, scheme %q", text, scheme)
	}
	b.far.take()

	b.authorize(t, func(q *hss.AuthorizeRequest) { q.Impi, q.AuthType, q.WantProfile = "other@ims.test", "", false })
	if got := b.far.take(); got != "MAR" {
		t.Errorf("an S-CSCF's question asks %q", got)
	}
	if _, err := b.Locate(t.Context(), &hss.LocateRequest{Impu: "sip:b@ims.test", Originating: true, AuthType: "CAPAB"}); err != nil {
		t.Fatal(err)
	}
	lir := b.far.asked[0]
	if _, originating := lir.Find(wire.OriginatingRequest); !originating || lir.Text(wire.PublicIdentity) != "sip:b@ims.test" {
		t.Errorf("LIR % x", []byte(lir))
	}
	b.far.take()

	for shared, want := range map[bool]bool{true: true, false: false} {
		b.set.SharedIFCs = shared
		_, _ = b.Assign(t.Context(), &hss.AssignRequest{Impi: "a@ims.test", Impu: "sip:a@ims.test", Reqtype: hss.Reg, NoCache: true, ServerName: "sip:other", Wildcard: "sip:!.*!@ims.test"})
		sar := b.far.asked[0]
		features, ok := sar.Find(wire.SupportedFeatures)
		list, _ := wire.Find(features, wire.FeatureList)
		if ok != want || want && (len(list) != 4 || list[3] != 1) {
			t.Errorf("request_shared_ifcs=%v: Supported-Features % x", shared, features)
		}
		if sar.Text(wire.ServerName) != "sip:other" || sar.Text(wire.WildcardedPublicIdentity) != "sip:!.*!@ims.test" {
			t.Errorf("SAR % x", []byte(sar))
		}
		b.far.take()
	}
}

func TestVectors(t *testing.T) {
	auth := func(add func(b *wire.Builder)) func(wire.Message) (wire.Message, error) {
		return func(m wire.Message) (wire.Message, error) {
			if m.Command() != wire.MultimediaAuth {
				return nil, nil
			}
			b := start(m).Uint32(wire.ResultCode, 2001).Begin(wire.SIPAuthDataItem)
			add(b)
			return done(b.End()), nil
		}
	}
	aka := func(scheme string, rand int) func(b *wire.Builder) {
		return func(b *wire.Builder) {
			b.Text(wire.SIPAuthenticationScheme, scheme).Bytes(wire.SIPAuthenticate, []byte(strings.Repeat("r", rand))).Bytes(wire.SIPAuthorization, []byte("xresxres")).
				Bytes(wire.ConfidentialityKey, []byte(strings.Repeat("c", 16))).Bytes(wire.IntegrityKey, []byte(strings.Repeat("i", 16)))
		}
	}
	for name, c := range map[string]struct {
		add    func(b *wire.Builder)
		result hss.Result
		check  func(r *hss.AuthorizeResponse) bool
	}{
		"AKA": {aka("Digest-AKAv1-MD5", 32), 0, func(r *hss.AuthorizeResponse) bool {
			k := r.GetAka()
			return k.GetVersion() == 1 && k.GetChallenge() == base64.StdEncoding.EncodeToString([]byte(strings.Repeat("r", 32))) && k.GetResponse() == hex.EncodeToString([]byte("xresxres")) && len(k.GetCryptKey()) == 32 && k.GetIntegrityKey() == strings.Repeat("69", 16)
		}},
		"AKA version 2":    {aka("Digest-AKAv2-SHA-256", 32), 0, func(r *hss.AuthorizeResponse) bool { return r.GetAka().GetVersion() == 2 }},
		"AKA without AUTN": {aka("Digest-AKAv1-MD5", 16), hss.Result_RESULT_UNAVAILABLE, nil},
		"password in 610": {func(b *wire.Builder) {
			b.Text(wire.SIPAuthenticationScheme, "SIP Digest").Text(wire.SIPAuthenticate, "0123456789abcdef").Text(wire.SIPAuthorization, "secret")
		}, 0, func(r *hss.AuthorizeResponse) bool { // md5 of a@ims.test:ims.test:secret
			return r.GetDigest().GetHa1() == "49a91eae12c74f1b6fe651c538e0595a" && r.GetDigest().GetRealm() == "ims.test"
		}},
		"HA1 that is none": {func(b *wire.Builder) {
			b.Text(wire.SIPAuthenticationScheme, "SIP Digest").Begin(wire.SIPDigestAuthenticate).Text(wire.DigestHA1, "short").End()
		}, hss.Result_RESULT_UNAVAILABLE, nil},
		"unknown scheme": {func(b *wire.Builder) { b.Text(wire.SIPAuthenticationScheme, "Early-IMS-Security") }, hss.Result_RESULT_UNSUPPORTED_SCHEME, nil},
		"empty item":     {func(*wire.Builder) {}, hss.Result_RESULT_UNSUPPORTED_SCHEME, nil},
	} {
		b := newBench(t)
		b.far.answer = auth(c.add)
		resp := b.authorize(t, nil)
		if resp.GetResult() != c.result || c.check != nil && !c.check(resp) {
			t.Errorf("%s: %v", name, resp)
		}
	}
}

// TestResults maps what an HSS can answer. Only what it says of the user may become a 403 or 404 of the router.
func TestResults(t *testing.T) {
	plain := func(code uint32) func(m wire.Message) (wire.Message, error) {
		return func(m wire.Message) (wire.Message, error) { return done(start(m).Uint32(wire.ResultCode, code)), nil }
	}
	exp := func(code uint32) func(m wire.Message) (wire.Message, error) {
		return func(m wire.Message) (wire.Message, error) { return done(experimental(start(m), code)), nil }
	}
	for name, c := range map[string]struct {
		answer func(m wire.Message) (wire.Message, error)
		want   hss.Result
	}{
		"5001 unknown":              {exp(5001), hss.Result_RESULT_UNKNOWN},
		"5002 do not match":         {exp(5002), hss.Result_RESULT_UNKNOWN},
		"5003 not registered":       {exp(5003), hss.Result_RESULT_NOT_REGISTERED},
		"5004 roaming":              {exp(5004), hss.Result_RESULT_ROAMING_REFUSED},
		"5006 scheme":               {exp(5006), hss.Result_RESULT_UNSUPPORTED_SCHEME},
		"base 5003 rejected":        {plain(5003), hss.Result_RESULT_BARRED},
		"base 5001 AVP unsupported": {plain(5001), hss.Result_RESULT_UNAVAILABLE},
		"base 5004 invalid value":   {plain(5004), hss.Result_RESULT_UNAVAILABLE},
		"3002 unable to deliver":    {plain(3002), hss.Result_RESULT_UNAVAILABLE},
		"3003 realm not served":     {plain(3003), hss.Result_RESULT_UNAVAILABLE},
		"3004 too busy":             {plain(3004), hss.Result_RESULT_UNAVAILABLE},
		"5012 unable to comply":     {plain(5012), hss.Result_RESULT_UNAVAILABLE},
		"4181 something transient":  {exp(4181), hss.Result_RESULT_UNAVAILABLE},
		"5065 something new":        {exp(5065), hss.Result_RESULT_UNAVAILABLE},
		"no result":                 {func(m wire.Message) (wire.Message, error) { return done(start(m)), nil }, hss.Result_RESULT_UNAVAILABLE},
		"nobody there":              {func(wire.Message) (wire.Message, error) { return nil, peer.ErrNoPeer }, hss.Result_RESULT_UNAVAILABLE},
		"no answer":                 {func(wire.Message) (wire.Message, error) { return nil, peer.ErrTimeout }, hss.Result_RESULT_TIMEOUT},
		"AVPs that do not fit": {func(m wire.Message) (wire.Message, error) {
			a := done(start(m).Uint32(wire.ResultCode, 2001))
			a[len(a)-5] = 200
			return a, nil
		}, hss.Result_RESULT_UNAVAILABLE},
		"a result of the wrong size": {func(m wire.Message) (wire.Message, error) {
			return done(start(m).Bytes(wire.ResultCode, []byte{1})), nil
		}, hss.Result_RESULT_UNAVAILABLE},
	} {
		b := newBench(t)
		b.far.answer = c.answer
		if got := b.authorize(t, nil); got.GetResult() != c.want || got.GetDetail() == "" {
			t.Errorf("%s: authorize: %v, want %v", name, got, c.want)
		}
		if got, _ := b.Locate(t.Context(), &hss.LocateRequest{Impu: "sip:a@ims.test"}); got.GetResult() != c.want {
			t.Errorf("%s: locate: %v, want %v", name, got, c.want)
		}
		for _, reqtype := range []string{hss.Reg, hss.Call} {
			if got := b.assign(t, reqtype, "a@ims.test", "sip:a@ims.test"); got.GetResult() != c.want {
				t.Errorf("%s: %s: %v, want %v", name, reqtype, got, c.want)
			}
		}
	}
}

func TestBadProfiles(t *testing.T) {
	for text, want := range map[string]hss.Result{
		"": hss.Result_RESULT_UNAVAILABLE, "<x/>": hss.Result_RESULT_UNAVAILABLE, "<IMSSubscription>": hss.Result_RESULT_UNAVAILABLE,
		`<IMSSubscription><ServiceProfile><PublicIdentity><BarringIndication>1</BarringIndication><Identity>sip:a@ims.test</Identity></PublicIdentity></ServiceProfile></IMSSubscription>`: hss.Result_RESULT_BARRED,
	} {
		b := newBench(t)
		b.far.answer = func(m wire.Message) (wire.Message, error) {
			return done(start(m).Uint32(wire.ResultCode, 2001).Text(wire.UserData, text)), nil
		}
		if got := b.assign(t, hss.Reg, "a@ims.test", "sip:a@ims.test"); got.GetResult() != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestLocate(t *testing.T) {
	b := newBench(t)
	b.far.answer = func(m wire.Message) (wire.Message, error) {
		return done(experimental(start(m), 2003).Text(wire.WildcardedPublicIdentity, "sip:!.*!@ims.test").Begin(wire.ServerCapabilities).
			Uint32(wire.MandatoryCapability, 7).Uint32(wire.OptionalCapability, 8).Uint32(wire.MandatoryCapability, 9).End()), nil
	}
	resp, _ := b.Locate(t.Context(), &hss.LocateRequest{Impu: "sip:x@ims.test", WantProfile: true})
	if c := resp.GetCapabilities(); resp.GetResultCode() != hss.UnregisteredService || fmt.Sprint(c.GetMandatory(), c.GetOptional()) != "[7 9] [8]" || resp.GetWildcard() == "" || resp.GetRegData() != nil {
		t.Errorf("got %v", resp)
	}
	b.far.answer = func(m wire.Message) (wire.Message, error) {
		if m.Command() != wire.LocationInfo {
			return nil, nil
		}
		return done(experimental(start(m), 2003).Begin(wire.ServerCapabilities).Text(wire.ServerName, "sip:preferred").End()), nil
	}
	if resp, _ := b.Locate(t.Context(), &hss.LocateRequest{Impu: "sip:x@ims.test"}); resp.GetServerName() != "sip:preferred" {
		t.Errorf("got %v", resp)
	}
	b.far.answer = nil
	b.assign(t, hss.Reg, "a@ims.test", "sip:a@ims.test")
	if resp, _ := b.Locate(t.Context(), &hss.LocateRequest{Impu: "tel:+15550001", WantProfile: true}); resp.GetServerName() != ours || resp.GetRegData().GetImsSubscription() != profile {
		t.Errorf("a registered user: %v", resp)
	}
}

// TestOutage: who is registered is served while the HSS is away; who is not is told so, with a time-out and never as
// unknown; and nobody is forgotten.
func TestOutage(t *testing.T) {
	for name, failure := range map[string]error{"no peer": peer.ErrNoPeer, "time-out": peer.ErrTimeout} {
		b := newBench(t)
		b.authorize(t, nil)
		b.assign(t, hss.Reg, "a@ims.test", "sip:a@ims.test")
		b.far.answer = func(wire.Message) (wire.Message, error) { return nil, failure }
		b.now = b.now.Add(1801 * time.Second) // digest and assignment are due
		if resp := b.authorize(t, nil); resp.GetResult() != hss.Result_RESULT_OK || resp.GetServerName() != ours || resp.GetDigest().GetHa1() == "" {
			t.Errorf("%s: re-registration: %v", name, resp)
		}
		if resp := b.assign(t, hss.Reg, "a@ims.test", "sip:a@ims.test"); resp.GetRegData().GetState() != hss.Registered || resp.GetRegData().GetImsSubscription() != profile {
			t.Errorf("%s: re-assignment: %v", name, resp)
		}
		if resp, _ := b.Locate(t.Context(), &hss.LocateRequest{Impu: "tel:+15550001", WantProfile: true}); resp.GetServerName() != ours || resp.GetRegData() == nil {
			t.Errorf("%s: call: %v", name, resp)
		}
		for what, result := range map[string]hss.Result{
			"another device": b.authorize(t, func(q *hss.AuthorizeRequest) { q.Impi = "new@ims.test" }).GetResult(),
			"another user":   b.authorize(t, func(q *hss.AuthorizeRequest) { q.Impi, q.Impu = "b@ims.test", "sip:b@ims.test" }).GetResult(),
			"registration":   b.assign(t, hss.Reg, "b@ims.test", "sip:b@ims.test").GetResult(),
			"call":           b.assign(t, hss.Call, "", "sip:b@ims.test").GetResult(),
			"deregistration": b.assign(t, hss.DeregUser, "a@ims.test", "sip:a@ims.test").GetResult(),
			"resynchronise":  b.authorize(t, func(q *hss.AuthorizeRequest) { q.Scheme, q.Resync = "aka", make([]byte, 30) }).GetResult(),
		} {
			if result != hss.Result_RESULT_UNAVAILABLE && result != hss.Result_RESULT_TIMEOUT {
				t.Errorf("%s: %s: %v", name, what, result)
			}
		}
		b.far.answer = nil
		b.far.take()
		if resp := b.assign(t, hss.DeregUser, "a@ims.test", "sip:a@ims.test"); resp.GetResult() != hss.Result_RESULT_OK || b.far.take() != "SAR5" {
			t.Errorf("%s: the deregistration that could not be told is lost: %v", name, resp)
		}
	}
}

// TestUnknownIdentitiesAreAskedOnce: a flood of questions about an identity that the HSS does not know ends here.
func TestUnknownIdentitiesAreAskedOnce(t *testing.T) {
	b := newBench(t)
	b.far.answer = func(m wire.Message) (wire.Message, error) { return done(experimental(start(m), 5001)), nil }
	for range 10 {
		if resp := b.authorize(t, nil); resp.GetResult() != hss.Result_RESULT_UNKNOWN || resp.GetDetail() == "" {
			t.Fatal(resp)
		}
		_, _ = b.Locate(t.Context(), &hss.LocateRequest{Impu: "sip:a@ims.test"})
		b.assign(t, hss.Call, "", "sip:a@ims.test")
	}
	if got := b.far.take(); got != "UAR0 LIR SAR3" {
		t.Errorf("asked %q", got)
	}
	b.far.answer = nil
	b.now = b.now.Add(5 * time.Second)
	if resp := b.authorize(t, nil); resp.GetResult() != hss.Result_RESULT_OK {
		t.Errorf("a user who was provisioned meanwhile: %v", resp)
	}
	b.set.Negative = 0
	b.far.answer = func(m wire.Message) (wire.Message, error) { return done(experimental(start(m), 5001)), nil }
	b.far.take()
	b.authorize(t, nil)
	b.authorize(t, nil)
	if got := b.far.take(); got != "UAR0 UAR0" {
		t.Errorf("turned off, asked %q", got)
	}
	// outages are not remembered
	b.set.Negative = time.Minute
	b.far.answer = func(wire.Message) (wire.Message, error) { return nil, peer.ErrTimeout }
	b.authorize(t, func(q *hss.AuthorizeRequest) { q.Impi = "c@ims.test" })
	b.far.answer = nil
	if resp := b.authorize(t, func(q *hss.AuthorizeRequest) { q.Impi = "c@ims.test" }); resp.GetResult() != hss.Result_RESULT_OK {
		t.Errorf("after an outage: %v", resp)
	}
}

func TestDigestIsForgottenAfterAFailure(t *testing.T) {
	b := newBench(t)
	b.authorize(t, nil)
	b.far.take()
	if b.assign(t, hss.DeregAuthFailed, "a@ims.test", "sip:a@ims.test"); b.far.take() != "SAR9" {
		t.Error("the HSS was not told of the failed authentication")
	}
	if b.authorize(t, nil); b.far.take() != "UAR0 MAR" {
		t.Error("the old digest was used again")
	}
	b.assign(t, hss.Reg, "a@ims.test", "sip:a@ims.test")
	b.far.take()
	b.assign(t, hss.DeregAuthTimeout, "a@ims.test", "sip:a@ims.test")
	if data, _, _ := b.State(t.Context(), "sip:a@ims.test"); b.far.take() != "SAR10" || data.GetState() != hss.Registered {
		t.Error("a failed authentication must not end a registration")
	}
	b.set.Digest = time.Hour
	b.now = b.now.Add(1000 * time.Second)
	b.authorize(t, nil)
	b.far.take()
	b.now = b.now.Add(1000 * time.Second)
	if b.authorize(t, nil); b.far.take() != "UAR0" {
		t.Error("impu_cache_ttl has no effect")
	}
}

// TestAnotherServer: a user whom another S-CSCF serves is not challenged with our vector.
func TestAnotherServer(t *testing.T) {
	b := newBench(t)
	for name, add := range map[string]func(b *wire.Builder) *wire.Builder{
		"named": func(b *wire.Builder) *wire.Builder { return b.Text(wire.ServerName, "sip:other.ims.test") },
		"demanded": func(b *wire.Builder) *wire.Builder {
			return b.Begin(wire.ServerCapabilities).Uint32(wire.MandatoryCapability, 1).End()
		},
	} {
		b.far.answer = func(m wire.Message) (wire.Message, error) { return done(add(experimental(start(m), 2002))), nil }
		if resp := b.authorize(t, nil); b.far.take() != "UAR0" || resp.GetDigest() != nil || resp.GetResultCode() != hss.SubsequentRegistration {
			t.Errorf("%s: %v", name, resp)
		}
	}
}

// TestForgottenRegistration: the store has lost a registration that the HSS remembers.
func TestForgottenRegistration(t *testing.T) {
	for _, code := range []uint32{5005, 5007} {
		b := newBench(t)
		b.far.answer = func(m wire.Message) (wire.Message, error) {
			if kind, _ := m.Uint32(wire.ServerAssignmentType); kind == 3 {
				return done(experimental(start(m), code)), nil
			}
			return nil, nil
		}
		if resp := b.assign(t, hss.Call, "", "sip:a@ims.test"); b.far.take() != "SAR3 SAR0" || resp.GetRegData().GetState() != hss.Registered {
			t.Errorf("%d: %v", code, resp)
		}
	}
}

// away is a store that does not answer.
type away struct{}

func (away) Get(context.Context, string, ...string) ([]*records.Row, error) {
	return nil, rpc.ErrUnavailable
}
func (away) Swap(context.Context, string, string, uint64, []byte) (uint64, bool, error) {
	return 0, false, rpc.ErrUnavailable
}
func (away) Delete(context.Context, string, string, uint64) (bool, error) {
	return false, rpc.ErrUnavailable
}

func TestStoreAway(t *testing.T) {
	b := newBench(t)
	c := cx.New(cx.Deps{Peers: b.far, Rows: away{}, Settings: func() cx.Settings { return b.set }, Now: time.Now, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	a, _ := c.Authorize(t.Context(), &hss.AuthorizeRequest{Impi: "a@ims.test", Impu: "sip:a@ims.test", AuthType: "REG"})
	l, _ := c.Locate(t.Context(), &hss.LocateRequest{Impu: "sip:a@ims.test"})
	s, _ := c.Assign(t.Context(), &hss.AssignRequest{Impi: "a@ims.test", Impu: "sip:a@ims.test", Reqtype: hss.Reg})
	if a.GetResult() != hss.Result_RESULT_UNAVAILABLE || l.GetResult() != hss.Result_RESULT_UNAVAILABLE || s.GetResult() != hss.Result_RESULT_UNAVAILABLE {
		t.Errorf("%v, %v, %v", a, l, s)
	}
}
