package hssrole_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/cx"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/dictionary"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/hssrole"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/master"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
)

// home is our HSS with a few subscribers, and the dictionary by which its messages are checked.
type home struct {
	*hssrole.Server
	t      *testing.T
	dict   *dictionary.Dictionary
	db     *subscribers.DB
	master *master.Master
	last   wire.Message
	n      uint32
}

func newHome(t *testing.T) *home {
	t.Helper()
	d, err := dictionary.Load()
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	db := subscribers.New(records.NewMemory())
	add := func(criteria string, impis []string, impus ...*subscribers.Public) {
		set, err := db.CreateSet(ctx)
		must(err)
		profile, err := db.CreateProfile(ctx, set)
		must(err)
		for _, id := range impus {
			id.Key, err = subscribers.Key(id.Uri)
			must(err)
			must(db.PutPublic(ctx, set, profile, id))
		}
		if criteria != "" {
			must(db.PutCriteria(ctx, set, profile, criteria))
		}
		for _, impi := range impis {
			must(db.PutPrivate(ctx, impi, subscribers.Credentials{DigestHA1: provisioning.HA1(impi, "ims.test", "secret"), Realm: "ims.test"}))
			must(db.Link(ctx, impi, set))
		}
	}
	add("", []string{"a@ims.test", "tablet@ims.test"}, &subscribers.Public{Uri: "sip:a@ims.test"}, &subscribers.Public{Uri: "tel:+1555"})
	add("<InitialFilterCriteria><Priority>1</Priority></InitialFilterCriteria>", []string{"b@ims.test"}, &subscribers.Public{Uri: "sip:b@ims.test"})
	add("", []string{"c@ims.test"}, &subscribers.Public{Uri: "sip:c@ims.test", Barred: true})
	m := master.New(db, registrations.NewMemory(), func() master.Settings { return master.Settings{ServerName: "sip:own.ims.test", CDF: "ccf.ims.test"} }, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	return &home{t: t, dict: d, db: db, master: m, Server: hssrole.New(hssrole.Deps{Master: m, Rows: records.NewMemory(), Host: "hss.ims.test", Realm: "ims.test", Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})}
}

// Do is the network between a client and the HSS; messages both ways must be valid.
func (h *home) Do(ctx context.Context, m wire.Message, _ string) (wire.Message, error) {
	if fault := h.dict.Validate(m); fault != nil {
		h.t.Errorf("request %d is not valid: %v", m.Command(), fault)
	}
	h.last = h.Serve(ctx, m)
	if fault := h.dict.Validate(h.last); fault != nil {
		h.t.Errorf("answer to %d is not valid: %v", m.Command(), fault)
	}
	if h.last.Request() || h.last.Text(wire.SessionID) != m.Text(wire.SessionID) || h.last.Text(wire.OriginHost) != "hss.ims.test" {
		h.t.Errorf("answer % x", []byte(h.last))
	}
	return h.last, nil
}

func (h *home) SessionID() string { h.n++; return fmt.Sprintf("scscf.other.test;1;%d", h.n) }
func (h *home) Host() string      { return "scscf.other.test" }
func (h *home) Realm() string     { return "other.test" }

func (h *home) ask(command uint32, impi, impu, server string, add func(b *wire.Builder)) wire.Message {
	h.t.Helper()
	b := wire.NewRequest(nil, command, wire.Cx, wire.FlagProxiable).Text(wire.SessionID, h.SessionID()).
		Begin(wire.VendorSpecificApplicationID).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.AuthApplicationID, wire.Cx).End().
		Uint32(wire.AuthSessionState, 1).Text(wire.OriginHost, h.Host()).Text(wire.OriginRealm, h.Realm()).Text(wire.DestinationRealm, "ims.test")
	if impi != "" {
		b.Text(wire.UserName, impi)
	}
	if impu != "" {
		b.Text(wire.PublicIdentity, impu)
	}
	if server != "" {
		b.Text(wire.ServerName, server)
	}
	if add != nil {
		add(b)
	}
	m, err := b.Finish()
	if err != nil {
		h.t.Fatal(err)
	}
	answer, _ := h.Do(h.t.Context(), m, "")
	return answer
}

func code(m wire.Message) string {
	if group, ok := m.Find(wire.ExperimentalResult); ok {
		data, _ := wire.Find(group, wire.ExperimentalResultCode)
		n, _ := wire.Number(data)
		return fmt.Sprintf("exp %d", n)
	}
	n, _ := m.Uint32(wire.ResultCode)
	return fmt.Sprint(n)
}

// step asks by a short script: "UAR 0 a", "LIR a", "MAR a scheme", "SAR 1 a server"; the private identity is that of a
// unless it is given as impi/impu.
func (h *home) step(script string) string {
	h.t.Helper()
	words := strings.Split(script, " ")
	who := func(s string) (impi, impu string) {
		impi, impu, both := strings.Cut(s, "/")
		if !both {
			impu = impi
		}
		if impi != "" {
			impi += "@ims.test"
		}
		return impi, "sip:" + impu + "@ims.test"
	}
	number := func(s string) (n uint32) { _, _ = fmt.Sscan(s, &n); return n }
	var m wire.Message
	switch words[0] {
	case "UAR":
		impi, impu := who(words[2])
		m = h.ask(wire.UserAuthorization, impi, impu, "", func(b *wire.Builder) {
			b.Text(wire.VisitedNetworkIdentifier, "other.test").Uint32(wire.UserAuthorizationType, number(words[1]))
		})
	case "LIR":
		_, impu := who(words[1])
		m = h.ask(wire.LocationInfo, "", impu, "", nil)
	case "MAR":
		impi, impu := who(words[1])
		m = h.ask(wire.MultimediaAuth, impi, impu, "sip:"+words[2], func(b *wire.Builder) {
			b.Uint32(wire.SIPNumberAuthItems, 1).Begin(wire.SIPAuthDataItem).Text(wire.SIPAuthenticationScheme, strings.Join(words[3:], " ")).End()
		})
	case "SAR":
		impi, impu := who(words[2])
		m = h.ask(wire.ServerAssignment, impi, impu, "sip:"+words[3], func(b *wire.Builder) {
			b.Uint32(wire.ServerAssignmentType, number(words[1])).Uint32(wire.UserDataAlreadyAvailable, 0)
		})
	}
	out := code(m)
	if name := m.Text(wire.ServerName); name != "" {
		out += " " + name
	}
	if _, ok := m.Find(wire.ServerCapabilities); ok {
		out += " capabilities"
	}
	if m.Text(wire.UserData) != "" {
		out += " profile"
	}
	return out
}

// TestCommands goes through what TS 29.228 6.1 and 6.3 say, step by step: what is asked, and what is answered.
func TestCommands(t *testing.T) {
	for name, script := range map[string]string{
		"registration": `UAR 0 a: exp 2001 capabilities; MAR a s1 SIP Digest: 2001; UAR 0 a: exp 2002 sip:s1; SAR 1 a s1: 2001 profile; UAR 0 a: exp 2002 sip:s1; LIR a: 2001 sip:s1;
			SAR 2 a s1: 2001 profile; UAR 1 a: 2001 sip:s1; LIR a: 2001 sip:s1; SAR 5 a s1: 2001; LIR a: exp 5003; UAR 0 a: exp 2001 capabilities; UAR 1 a: exp 5003`,
		"identities": `UAR 0 x: exp 5001; UAR 0 x/a: exp 5001; UAR 0 a/x: exp 5001; UAR 0 b/a: exp 5002; LIR x: exp 5001; MAR b/a s1 SIP Digest: exp 5002; SAR 1 b/a s1: exp 5002;
			UAR 0 c: 5003; LIR c: exp 5001; SAR 1 c s1: 5003`,
		"two devices":             `SAR 1 a s1: 2001 profile; SAR 1 tablet/a s1: 2001 profile; SAR 4 a s1: 2001; LIR a: 2001 sip:s1; SAR 4 a s1: exp 5003; SAR 8 tablet/a s1: 2001; LIR a: exp 5003`,
		"capabilities":            `SAR 1 a s1: 2001 profile; UAR 2 a: 2001 capabilities`,
		"unregistered":            `LIR a: exp 5003; LIR b: exp 2003 capabilities; SAR 3 b s1: 2001 profile; LIR b: 2001 sip:s1; SAR 1 b s1: 2001 profile; SAR 3 b s1: exp 5005; SAR 6 b s1: 2001; LIR b: 2001 sip:s1; SAR 4 b s1: 2001; LIR b: exp 2003 capabilities`,
		"unregistered, no device": `SAR 3 /b s1: 2001 profile; SAR 0 /b s1: 2001 profile; SAR 1 /b s1: 5005; SAR 4 /b s1: 2001`,
		"another S-CSCF":          `SAR 1 a s1: 2001 profile; SAR 0 a s2: 5012; SAR 5 a s2: exp 5003; SAR 1 a s2: 2001 profile; LIR a: 2001 sip:s2; SAR 5 a s1: exp 5003; LIR a: 2001 sip:s2`,
		"authentication fails":    `MAR a s1 SIP Digest: 2001; SAR 9 a s1: 2001; UAR 0 a: exp 2001 capabilities; MAR a s1 SIP Digest: 2001; SAR 10 a s1: 2001; UAR 0 a: exp 2001 capabilities; SAR 1 a s1: 2001 profile; MAR a s1 SIP Digest: 2001; SAR 9 a s1: 2001; LIR a: 2001 sip:s1`,
		"types that are not Cx's": `SAR 12 a s1: exp 5007; SAR 99 a s1: exp 5007`,
		"schemes":                 `MAR a s1 Early-IMS-Security: exp 5006; MAR a s1 Digest-AKAv1-MD5: exp 5006; MAR a s1 Unknown: 2001`,
		"nobody":                  `SAR 5 a s1: exp 5003; SAR 0 a s1: 5012`,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			for _, step := range strings.Split(script, ";") {
				asked, want, _ := strings.Cut(strings.TrimSpace(step), ": ")
				if got := h.step(asked); got != want {
					t.Errorf("%s: got %q, want %q", asked, got, want)
				}
			}
		})
	}
}

func TestWhatAnSCSCFIsTold(t *testing.T) {
	h := newHome(t)
	h.step("SAR 1 a s1")
	charging, _ := h.last.Find(wire.ChargingInformation)
	ccf, _ := wire.Find(charging, wire.PrimaryCharging)
	identities, _ := h.last.Find(wire.AssociatedIdentities)
	var impis []string
	for s := wire.Group(identities); s.Next(); {
		impis = append(impis, string(s.Data))
	}
	if text := h.last.Text(wire.UserData); !strings.Contains(text, "<Identity>tel:+1555</Identity>") || string(ccf) != "aaa://ccf.ims.test" || len(impis) != 2 || h.last.Text(wire.UserName) != "a@ims.test" {
		t.Errorf("profile %q, CCF %q, private identities %v", text, ccf, impis)
	}
	h.step("SAR 5 a s1")
	if h.last.Text(wire.UserData) != "" {
		t.Error("a deregistration is answered with the profile")
	}
	if _, ok := h.ask(wire.ServerAssignment, "a@ims.test", "", "sip:s1", func(b *wire.Builder) {
		b.Uint32(wire.ServerAssignmentType, 5).Uint32(wire.UserDataAlreadyAvailable, 0)
	}).Find(wire.ResultCode); !ok {
		t.Error("no result")
	}
}

// TestBothEnds has our Cx client speak with our HSS: a whole registration, with the digest of the subscriber.
func TestBothEnds(t *testing.T) {
	h := newHome(t)
	set := cx.Settings{Realm: "ims.test", HomeDomain: "other.test", ServerName: "sip:scscf.other.test", Timeout: time.Second, ReAssign: time.Hour, Registration: time.Minute,
		Schemes: cx.Schemes{Unknown: "Unknown", Digest: "SIP Digest", AKAv1: "Digest-AKAv1-MD5", AKAv2: "Digest-AKAv2-SHA-256"}}
	c := cx.New(cx.Deps{Peers: h, Rows: records.NewMemory(), Settings: func() cx.Settings { return set }, Now: time.Now, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	req := &hss.AuthorizeRequest{Impi: "a@ims.test", Impu: "tel:+1555", AuthType: "REG", VisitedNetwork: "other.test", WantVector: true, WantProfile: true}
	resp, err := c.Authorize(t.Context(), req)
	if err != nil || resp.GetDigest().GetHa1() != provisioning.HA1("a@ims.test", "ims.test", "secret") || resp.GetDigest().GetRealm() != "ims.test" {
		t.Fatalf("got %v, %v", resp, err)
	}
	assigned, err := c.Assign(t.Context(), &hss.AssignRequest{Impi: "a@ims.test", Impu: "tel:+1555", Reqtype: hss.Reg})
	if err != nil || assigned.GetRegData().GetState() != hss.Registered || assigned.GetRegData().GetCcfs()[0] != "aaa://ccf.ims.test" {
		t.Fatalf("got %v, %v", assigned, err)
	}
	if l, _ := c.Locate(t.Context(), &hss.LocateRequest{Impu: "sip:a@ims.test"}); l.GetServerName() != "sip:scscf.other.test" {
		t.Errorf("location %v", l)
	}
	if gone, _ := c.Assign(t.Context(), &hss.AssignRequest{Impi: "a@ims.test", Impu: "sip:a@ims.test", Reqtype: hss.DeregUser}); gone.GetResult() != hss.Result_RESULT_OK {
		t.Errorf("deregistration %v", gone)
	}
	if l, _ := c.Locate(t.Context(), &hss.LocateRequest{Impu: "sip:a@ims.test"}); l.GetResult() != hss.Result_RESULT_NOT_REGISTERED {
		t.Errorf("location %v", l)
	}
}
