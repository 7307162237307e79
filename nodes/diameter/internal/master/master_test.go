package master

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss/hsstest"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// bindings is registration state by set.
type bindings struct {
	records map[string]*registrations.Record
	err     error
}

func (b *bindings) Get(_ context.Context, aor string) (*registrations.Record, error) {
	if b.err != nil {
		return nil, b.err
	}
	if rec := b.records[aor]; rec != nil {
		return rec, nil
	}
	return &registrations.Record{Aor: aor}, nil
}

type failing struct{ err error }

func (f failing) Advance(context.Context, string, func(*subscribers.Aka) (uint64, error)) (*subscribers.Aka, error) {
	return nil, f.err
}

func (f failing) Find(context.Context, string, string) (subscribers.Found, error) {
	return subscribers.Found{}, f.err
}

func newMaster(t *testing.T, cdf string) (*Master, *bindings, *prometheus.Registry) {
	t.Helper()
	ctx := t.Context()
	f := hsstest.NewFixture()
	db := subscribers.New(records.NewMemory())
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	double := f.Load() // for the digests of its passwords
	for _, s := range f.Sets {
		set, err := db.CreateSet(ctx)
		must(err)
		profile, err := db.CreateProfile(ctx, set)
		must(err)
		for _, id := range s.Identities {
			key, err := subscribers.Key(id.URI)
			must(err)
			must(db.PutPublic(ctx, set, profile, &subscribers.Public{Key: key, Uri: id.URI, Barred: id.Barred}))
		}
		for impi := range s.Passwords {
			resp, err := double.Authorize(ctx, &hss.AuthorizeRequest{Impi: impi, Impu: s.Identities[len(s.Identities)-1].URI, WantVector: true})
			must(err)
			must(db.PutPrivate(ctx, impi, subscribers.Credentials{DigestHA1: resp.GetDigest().GetHa1(), Realm: f.Domain}))
			must(db.Link(ctx, impi, set))
		}
	}
	regs, reg := &bindings{records: map[string]*registrations.Record{}}, prometheus.NewPedanticRegistry()
	return New(db, regs, func() Settings { return Settings{f.ServerName, cdf} }, slog.New(slog.DiscardHandler), reg), regs, reg
}

func TestMasterConforms(t *testing.T) {
	m, _, _ := newMaster(t, "")
	hsstest.Conformance(t, m)
}

func TestStateFollowsTheBindings(t *testing.T) {
	m, regs, _ := newMaster(t, "")
	state := func() string {
		t.Helper()
		data, result, detail := m.State(t.Context(), "tel:+15551000")
		if result != hss.Result_RESULT_OK {
			t.Fatal(result, detail)
		}
		return data.GetState()
	}
	if got := state(); got != hss.NotRegistered {
		t.Errorf("without bindings: %s", got)
	}
	const aor = "sip:alice@example.com" // the first identity of the set that is not barred
	regs.records[aor] = &registrations.Record{UnregisteredService: true}
	if got := state(); got != hss.Unregistered {
		t.Errorf("served unregistered: %s", got)
	}
	regs.records[aor] = &registrations.Record{Bindings: []*registrations.Binding{{Id: "1"}}}
	if got := state(); got != hss.Registered {
		t.Errorf("with a binding: %s", got)
	}
	resp, err := m.Assign(t.Context(), &hss.AssignRequest{Impi: "alice@example.com", Impu: aor, Reqtype: hss.Call})
	if d := resp.GetRegData(); err != nil || d.GetState() != hss.Registered || d.GetPreviousState() != hss.Registered {
		t.Errorf("call to a registered user: %v, %v", resp, err)
	}
	if _, result, _ := m.State(t.Context(), "sip:nobody@example.com"); result != hss.Result_RESULT_UNKNOWN {
		t.Errorf("nobody: %v", result)
	}
}

func TestAuthorizeAsksNoRegistration(t *testing.T) {
	m, regs, _ := newMaster(t, "")
	regs.err = errors.New("must not be asked")
	resp, err := m.Authorize(t.Context(), &hss.AuthorizeRequest{Impi: "bob@example.com", Impu: "sip:bob@example.com", WantVector: true, WantProfile: true})
	if err != nil || resp.GetResult() != hss.Result_RESULT_OK {
		t.Errorf("got %v, %v", resp, err)
	}
}

func TestStoreTroubleIsToldApart(t *testing.T) {
	m, regs, _ := newMaster(t, "")
	regs.err = rpc.ErrTimeout
	if resp, _ := m.Assign(t.Context(), &hss.AssignRequest{Impu: "sip:bob@example.com", Reqtype: hss.Call}); resp.GetResult() != hss.Result_RESULT_TIMEOUT {
		t.Errorf("got %v", resp)
	}
	for err, want := range map[error]hss.Result{rpc.ErrUnavailable: hss.Result_RESULT_UNAVAILABLE, rpc.ErrTimeout: hss.Result_RESULT_TIMEOUT, context.DeadlineExceeded: hss.Result_RESULT_TIMEOUT} {
		m := New(failing{err}, regs, func() Settings { return Settings{} }, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if resp, _ := m.Authorize(t.Context(), &hss.AuthorizeRequest{Impi: "a", Impu: "sip:a@b"}); resp.GetResult() != want {
			t.Errorf("authorize with %v: %v", err, resp)
		}
		if resp, _ := m.Locate(t.Context(), &hss.LocateRequest{Impu: "sip:a@b"}); resp.GetResult() != want {
			t.Errorf("locate with %v: %v", err, resp)
		}
	}
}

func TestCountsAndCharging(t *testing.T) {
	m, _, reg := newMaster(t, "cdf.example.com")
	ctx := t.Context()
	resp, _ := m.Assign(ctx, &hss.AssignRequest{Impu: "sip:bob@example.com", Reqtype: "dereg-auth-failure"})
	if got := resp.GetRegData().GetCcfs(); len(got) != 1 || got[0] != "cdf.example.com" {
		t.Errorf("charging functions %v", got)
	}
	for range 2 {
		_, _ = m.Assign(ctx, &hss.AssignRequest{Impu: "sip:bob@example.com", Reqtype: hss.DeregTimeout, EffectId: "e1"})
	}
	_, _ = m.Assign(ctx, &hss.AssignRequest{Impu: "sip:bob@example.com", Reqtype: "nonsense"})
	_, _ = m.Locate(ctx, &hss.LocateRequest{Impu: "sip:bob@example.com"})
	if err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP ims_diameter_operations_total Questions answered, by kind: authorize, locate, assign, state.
# TYPE ims_diameter_operations_total counter
ims_diameter_operations_total{operation="assign"} 4
ims_diameter_operations_total{operation="authorize"} 0
ims_diameter_operations_total{operation="locate"} 1
ims_diameter_operations_total{operation="state"} 0
# HELP ims_hss_assignments_total Server assignments told to the HSS, by reqtype.
# TYPE ims_hss_assignments_total counter
ims_hss_assignments_total{reqtype="dereg-auth-failed"} 1
ims_hss_assignments_total{reqtype="dereg-timeout"} 2
`)); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v %v", problems, err)
	}
}

// BenchmarkAuthorize is the work of a REGISTER beside the store's.
func BenchmarkAuthorize(b *testing.B) {
	ctx := context.Background()
	db := subscribers.New(records.NewMemory())
	set, err := db.CreateSet(ctx)
	if err != nil {
		b.Fatal(err)
	}
	profile, _ := db.CreateProfile(ctx, set)
	_ = db.PutPrivate(ctx, "a@b", subscribers.Credentials{DigestHA1: "0123456789abcdef0123456789abcdef", Realm: "b"})
	_ = db.Link(ctx, "a@b", set)
	if err := db.PutPublic(ctx, set, profile, &subscribers.Public{Key: "sip:a@b", Uri: "sip:a@b"}); err != nil {
		b.Fatal(err)
	}
	_ = db.PutCriteria(ctx, set, profile, strings.Repeat("<InitialFilterCriteria></InitialFilterCriteria>", 10))
	m := New(db, &bindings{}, func() Settings { return Settings{"sip:s", ""} }, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	b.ReportAllocs()
	for b.Loop() {
		resp, err := m.Authorize(ctx, &hss.AuthorizeRequest{Impi: "a@b", Impu: "sip:a@b", WantVector: true, WantProfile: true})
		if err != nil || resp.GetResult() != hss.Result_RESULT_OK {
			b.Fatal(resp, err)
		}
	}
}
