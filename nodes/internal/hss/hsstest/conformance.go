package hsstest

import (
	"context"
	"crypto/md5" //nolint:gosec // HA1 of RFC 2617 is MD5
	"encoding/hex"
	"encoding/xml"
	"slices"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

// Fixture is what Conformance provisions: two private identities share a set of three public ones, the second of
// which is barred; a third subscriber stands alone; a fourth has only a barred identity.
type Fixture struct {
	Domain     string
	ServerName string
	Sets       []FixtureSet
}

// FixtureSet is one implicit registration set with one service profile.
type FixtureSet struct {
	Passwords  map[string]string // by private identity
	Identities []Identity
}

// NewFixture returns the data that Conformance expects.
func NewFixture() Fixture {
	return Fixture{Domain: "example.com", ServerName: "sip:scscf.router.example.com:5054;transport=TCP", Sets: []FixtureSet{
		{
			Passwords:  map[string]string{"alice@example.com": "one", "alice.tablet@example.com": "two"},
			Identities: []Identity{{URI: "sip:alice.hidden@example.com", Barred: true}, {URI: "sip:alice@example.com"}, {URI: "tel:+15551000"}},
		},
		{Passwords: map[string]string{"bob@example.com": "three"}, Identities: []Identity{{URI: "sip:bob@example.com"}}},
		{Passwords: map[string]string{"carol@example.com": "four"}, Identities: []Identity{{URI: "sip:carol@example.com", Barred: true}}},
	}}
}

// Load provisions f into a new HSS in memory.
func (f Fixture) Load() *HSS {
	h := New(f.Domain, f.ServerName)
	for _, s := range f.Sets {
		var impus []string
		for _, id := range s.Identities {
			impus = append(impus, id.URI)
		}
		for impi, password := range s.Passwords {
			h.Add(impi, password, impus...)
		}
		for _, id := range s.Identities {
			h.SetBarred(id.URI, id.Barred)
		}
	}
	return h
}

// Conformance checks a server that holds NewFixture and where nobody is registered.
func Conformance(t *testing.T, s hss.Server) {
	t.Helper()
	t.Run("authorize", func(t *testing.T) { conformAuthorize(t, s) })
	t.Run("locate", func(t *testing.T) { conformLocate(t, s) })
	t.Run("assign", func(t *testing.T) { conformAssign(t, s) })
}

func conformAuthorize(t *testing.T, s hss.Server) {
	f := NewFixture()
	ctx := context.Background()
	for _, tc := range []struct {
		name, impi, impu, scheme string
		want                     hss.Result
	}{
		{"own identity", "bob@example.com", "sip:bob@example.com", "", hss.Result_RESULT_OK},
		{"second device", "alice.tablet@example.com", "sip:alice@example.com", "digest", hss.Result_RESULT_OK},
		{"tel identity", "alice@example.com", "tel:+15551000", "", hss.Result_RESULT_OK},
		{"barred one of a set with others", "alice@example.com", "sip:alice.hidden@example.com", "", hss.Result_RESULT_OK},
		{"all barred", "carol@example.com", "sip:carol@example.com", "", hss.Result_RESULT_BARRED},
		{"unknown private", "nobody@example.com", "sip:bob@example.com", "", hss.Result_RESULT_UNKNOWN},
		{"unknown public", "bob@example.com", "sip:nobody@example.com", "", hss.Result_RESULT_UNKNOWN},
		{"wrong pair", "bob@example.com", "sip:alice@example.com", "", hss.Result_RESULT_UNKNOWN},
		{"no private", "", "sip:bob@example.com", "", hss.Result_RESULT_UNKNOWN},
		{"no AKA key", "bob@example.com", "sip:bob@example.com", "aka", hss.Result_RESULT_UNSUPPORTED_SCHEME},
	} {
		resp, err := s.Authorize(ctx, &hss.AuthorizeRequest{Impi: tc.impi, Impu: tc.impu, AuthType: "REG", Scheme: tc.scheme, WantVector: true, WantProfile: true})
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if resp.GetResult() != tc.want {
			t.Errorf("%s: got %v (%s), want %v", tc.name, resp.GetResult(), resp.GetDetail(), tc.want)
			continue
		}
		if tc.want != hss.Result_RESULT_OK {
			if resp.GetDetail() == "" || resp.GetDigest() != nil || resp.GetRegData() != nil {
				t.Errorf("%s: a refusal needs a reason and carries no data: %v", tc.name, resp)
			}
			continue
		}
		if resp.GetServerName() != f.ServerName || resp.GetResultCode() != hss.FirstRegistration {
			t.Errorf("%s: server %q, code %d", tc.name, resp.GetServerName(), resp.GetResultCode())
		}
		if got, want := resp.GetDigest(), f.ha1(tc.impi); got.GetHa1() != want || got.GetRealm() != f.Domain || got.GetQop() != "auth" {
			t.Errorf("%s: digest %v, want HA1 %s", tc.name, got, want)
		}
		f.checkProfile(t, tc.name, tc.impu, resp.GetRegData())
	}
	resp, err := s.Authorize(ctx, &hss.AuthorizeRequest{Impi: "bob@example.com", Impu: "sip:bob@example.com"})
	if err != nil || resp.GetDigest() != nil || resp.GetRegData() != nil {
		t.Errorf("what was not wanted was sent: %v, %v", resp, err)
	}
}

func conformLocate(t *testing.T, s hss.Server) {
	f := NewFixture()
	resp, err := s.Locate(context.Background(), &hss.LocateRequest{Impu: "tel:+15551000", WantProfile: true})
	if err != nil || resp.GetResult() != hss.Result_RESULT_OK || resp.GetServerName() != f.ServerName || resp.GetResultCode() != hss.FirstRegistration {
		t.Errorf("got %v, %v", resp, err)
	}
	f.checkProfile(t, "locate", "tel:+15551000", resp.GetRegData())
	resp, err = s.Locate(context.Background(), &hss.LocateRequest{Impu: "sip:nobody@example.com"})
	if err != nil || resp.GetResult() != hss.Result_RESULT_UNKNOWN || resp.GetDetail() == "" {
		t.Errorf("unknown: got %v, %v", resp, err)
	}
}

func conformAssign(t *testing.T, s hss.Server) {
	f := NewFixture()
	assign := func(reqtype, impi, impu string) *hss.AssignResponse {
		resp, err := s.Assign(context.Background(), &hss.AssignRequest{Impi: impi, Impu: impu, Reqtype: reqtype, ServerName: f.ServerName})
		if err != nil {
			t.Fatalf("%s: %v", reqtype, err)
		}
		return resp
	}
	resp := assign(hss.Call, "", "sip:bob@example.com")
	if d := resp.GetRegData(); d.GetState() != hss.Unregistered || d.GetPreviousState() != hss.NotRegistered {
		t.Errorf("call to an unregistered user: %v", resp)
	}
	resp = assign(hss.Reg, "alice@example.com", "sip:alice@example.com")
	if d := resp.GetRegData(); d.GetState() != hss.Registered || d.GetPreviousState() != hss.NotRegistered {
		t.Errorf("reg: %v", resp)
	}
	f.checkProfile(t, "reg", "sip:alice@example.com", resp.GetRegData())
	for _, reqtype := range []string{hss.DeregUser, hss.DeregAdmin, hss.DeregTimeout} {
		resp = assign(reqtype, "alice@example.com", "sip:alice@example.com")
		if d := resp.GetRegData(); d.GetState() != hss.NotRegistered || d.GetPreviousState() != "" {
			t.Errorf("%s: %v", reqtype, resp)
		}
		f.checkProfile(t, reqtype, "sip:alice@example.com", resp.GetRegData())
	}
	for _, pair := range [][2]string{{"bob@example.com", "sip:alice@example.com"}, {"", "sip:nobody@example.com"}} {
		if resp := assign(hss.Reg, pair[0], pair[1]); resp.GetResult() != hss.Result_RESULT_UNKNOWN || resp.GetRegData() != nil {
			t.Errorf("%v: got %v, want RESULT_UNKNOWN", pair, resp)
		}
	}
}

func (f Fixture) ha1(impi string) string {
	for _, s := range f.Sets {
		if password, ok := s.Passwords[impi]; ok {
			sum := md5.Sum([]byte(impi + ":" + f.Domain + ":" + password)) //nolint:gosec // see above
			return hex.EncodeToString(sum[:])
		}
	}
	return ""
}

// checkProfile compares the XML with the set that holds impu.
func (f Fixture) checkProfile(t *testing.T, name, impu string, data *hss.RegData) {
	t.Helper()
	var got struct {
		XMLName  xml.Name `xml:"IMSSubscription"`
		Profiles []struct {
			Identities []struct {
				Identity          string
				BarringIndication int
			} `xml:"PublicIdentity"`
		} `xml:"ServiceProfile"`
	}
	if err := xml.Unmarshal([]byte(data.GetImsSubscription()), &got); err != nil {
		t.Errorf("%s: profile: %v in %q", name, err, data.GetImsSubscription())
		return
	}
	var have []Identity
	for _, p := range got.Profiles {
		for _, id := range p.Identities {
			have = append(have, Identity{URI: id.Identity, Barred: id.BarringIndication == 1})
		}
	}
	for _, s := range f.Sets {
		if slices.ContainsFunc(s.Identities, func(id Identity) bool { return id.URI == impu }) && !slices.Equal(have, s.Identities) {
			t.Errorf("%s: identities %v, want %v", name, have, s.Identities)
		}
	}
}
