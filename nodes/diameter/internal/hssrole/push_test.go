package hssrole_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/hssrole"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/provision"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
)

// scscf is an S-CSCF of another core: it notes what it is told.
type scscf struct {
	h     *home
	told  []string
	fails int
	code  func(b *wire.Builder) *wire.Builder
}

func (s *scscf) SessionID() string { return "hss.ims.test;1;1" }

func (s *scscf) Do(_ context.Context, m wire.Message, host string) (wire.Message, error) {
	if fault := s.h.dict.Validate(m); fault != nil {
		s.h.t.Errorf("request %d is not valid: %v", m.Command(), fault)
	}
	if host != "scscf.other.test" || m.Text(wire.DestinationHost) != host || m.Text(wire.DestinationRealm) != "other.test" {
		s.h.t.Errorf("request to %q", host)
	}
	if s.fails > 0 {
		s.fails--
		return nil, errors.New("away")
	}
	text := map[uint32]string{wire.RegistrationTermination: "RTR ", wire.PushProfile: "PPR "}[m.Command()] + m.Text(wire.UserName)
	if identities, ok := m.Find(wire.AssociatedIdentities); ok {
		for in := wire.Group(identities); in.Next(); {
			text += "+" + string(in.Data)
		}
	}
	if impu := m.Text(wire.PublicIdentity); impu != "" {
		text += " " + impu
	}
	s.told = append(s.told, text)
	b := wire.NewAnswer(m, 0)
	if s.code == nil {
		b.Uint32(wire.ResultCode, wire.Success)
	} else {
		s.code(b)
	}
	return b.Finish()
}

const criteria = `<ServiceProfile><InitialFilterCriteria><Priority>1</Priority><TriggerPoint><ConditionTypeCNF>0</ConditionTypeCNF><SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>INVITE</Method></SPT></TriggerPoint>` +
	`<ApplicationServer><ServerName>sip:as.test</ServerName><DefaultHandling>0</DefaultHandling></ApplicationServer></InitialFilterCriteria></ServiceProfile>`

// TestProvisioningIsPushed changes subscribers over the provisioning API and reads what an S-CSCF that serves them is told.
func TestProvisioningIsPushed(t *testing.T) {
	for name, c := range map[string]struct {
		state  string // SARs before
		method string
		path   string // SET and PROFILE are those of a
		body   string
		told   string
		left   string // LIR afterwards
	}{
		"filter criteria":        {"SAR 1 a s1", "PUT", "/irs/SET/service_profiles/PROFILE/filter_criteria", criteria, "PPR a@ims.test", "2001 sip:s1"},
		"a new identity":         {"SAR 1 a s1", "PUT", "/irs/SET/service_profiles/PROFILE/public_ids/sip:new@ims.test", "<PublicIdentity><Identity>sip:new@ims.test</Identity></PublicIdentity>", "PPR a@ims.test", "2001 sip:s1"},
		"served unregistered":    {"SAR 3 a s1", "PUT", "/irs/SET/service_profiles/PROFILE/filter_criteria", criteria, "PPR a@ims.test", "2001 sip:s1"},
		"nobody serves":          {"", "PUT", "/irs/SET/service_profiles/PROFILE/filter_criteria", criteria, "", "exp 2003 capabilities"},
		"nothing changes":        {"SAR 1 a s1", "PUT", "/private/a@ims.test", `{"plaintext_password":"new","realm":"ims.test"}`, "", "2001 sip:s1"},
		"refused":                {"SAR 1 a s1", "PUT", "/irs/SET/service_profiles/PROFILE/filter_criteria", "<x", "", "2001 sip:s1"},
		"the set is deleted":     {"SAR 1 a s1, SAR 1 tablet/a s1", "DELETE", "/irs/SET", "", "RTR a@ims.test+a@ims.test+tablet@ims.test", "exp 5001"},
		"a device is deleted":    {"SAR 1 a s1, SAR 1 tablet/a s1", "DELETE", "/private/tablet@ims.test", "", "RTR tablet@ims.test", "2001 sip:s1"},
		"a device is taken out":  {"SAR 1 a s1", "DELETE", "/irs/SET/private_ids/a@ims.test", "", "RTR a@ims.test", "exp 5003"},
		"another device is gone": {"SAR 1 a s1", "DELETE", "/private/tablet@ims.test", "", "", "2001 sip:s1"},
		"the default goes":       {"SAR 1 a s1", "DELETE", "/irs/SET/service_profiles/PROFILE/public_ids/sip:a@ims.test", "", "RTR a@ims.test", "exp 5001"},
		"deleted, unregistered":  {"SAR 3 a s1", "DELETE", "/irs/SET", "", "RTR a@ims.test+a@ims.test+tablet@ims.test sip:a@ims.test", "exp 5001"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			s := &scscf{h: h, fails: 2}
			for _, step := range strings.Split(c.state, ", ") {
				if step != "" && !strings.HasPrefix(h.step(step), "2001") {
					t.Fatal(step)
				}
			}
			found, err := h.db.Public(t.Context(), "sip:a@ims.test")
			if err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux()
			provision.Register(mux, h.db, func() string { return "ims.test" })
			p := &hssrole.Pusher{Server: h.Server, Sets: h.db, Describe: h.master.Describe, Peers: s, Attempts: 3, Pause: time.Millisecond}
			path := strings.NewReplacer("SET", found.Set.GetId(), "PROFILE", found.Profile.GetId()).Replace(c.path)
			w := httptest.NewRecorder()
			p.Watch(mux).ServeHTTP(w, httptest.NewRequest(c.method, path, strings.NewReader(c.body)))
			p.Wait()
			if got := strings.Join(s.told, ", "); got != c.told {
				t.Errorf("%d %s; told %q, want %q", w.Code, w.Body, got, c.told)
			}
			if got := h.step("LIR a"); got != c.left {
				t.Errorf("afterwards LIR is answered %q, want %q", got, c.left)
			}
		})
	}
}

// TestPushesThatFail: an S-CSCF that is away stays noted, one that does not know the user is done with.
func TestPushesThatFail(t *testing.T) {
	for name, c := range map[string]struct {
		fails int
		code  func(b *wire.Builder) *wire.Builder
		noted bool
	}{
		"away":    {3, nil, true},
		"refuses": {0, func(b *wire.Builder) *wire.Builder { return b.Uint32(wire.ResultCode, 5012) }, true},
		"unknown user": {0, func(b *wire.Builder) *wire.Builder {
			return b.Begin(wire.ExperimentalResult).Uint32(wire.ExperimentalResultCode, 5001).End()
		}, false},
	} {
		h := newHome(t)
		s := &scscf{h: h, fails: c.fails, code: c.code}
		h.step("SAR 1 a s1")
		mux := http.NewServeMux()
		provision.Register(mux, h.db, func() string { return "ims.test" })
		p := &hssrole.Pusher{Server: h.Server, Sets: h.db, Describe: h.master.Describe, Peers: s, Attempts: 3, Pause: time.Millisecond}
		p.Watch(mux).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodDelete, "/private/a@ims.test", nil))
		p.Wait()
		if got := strings.Contains(h.step("LIR a"), "sip:s1"); got != c.noted {
			t.Errorf("%s: still noted: %v", name, got)
		}
	}
}
