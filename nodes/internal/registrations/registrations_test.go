package registrations_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations/registrationstest"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.UnixMilli(1_800_000_000_000)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestMemoryConforms(t *testing.T) {
	registrationstest.Run(t, func(*testing.T) registrationstest.Subject {
		c, m := newClock(), registrations.NewMemory()
		m.Now = c.Now
		return registrationstest.Subject{Service: m, Now: c.Now, Advance: c.Advance}
	})
}

// direct hands calls to handlers as the wire would.
type direct map[rpc.Method]rpc.Handler

func (d direct) Call(ctx context.Context, m rpc.Method, req []byte) ([]byte, error) {
	return d[m](ctx, req)
}

func TestClientConforms(t *testing.T) {
	registrationstest.Run(t, func(*testing.T) registrationstest.Subject {
		c, m := newClock(), registrations.NewMemory()
		m.Now = c.Now
		client := registrations.NewClient(direct(registrations.Handlers(m)))
		return registrationstest.Subject{Service: client, Now: c.Now, Advance: c.Advance}
	})
}

func TestUnknownFieldsSurvive(t *testing.T) {
	rec := &registrations.Record{Aor: "sip:a@b", Bindings: []*registrations.Binding{{Id: "x", ExpiresAt: 1e15}}}
	unknown := []byte{0xf8, 0x3f, 0x2a} // field 1023, varint 42
	rec.ProtoReflect().SetUnknown(unknown)
	resp, err := registrations.Change(rec, &registrations.ApplyRequest{Aor: "sip:a@b"}, time.UnixMilli(1))
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.GetRecord().ProtoReflect().GetUnknown(); string(got) != string(unknown) {
		t.Errorf("unknown fields after a change: %x", got)
	}
}

func TestExpiresZeroRemoves(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	rec := &registrations.Record{Aor: "sip:a@b", Bindings: []*registrations.Binding{{Id: "x", ExpiresAt: 2_000_000}}}
	req := &registrations.ApplyRequest{Aor: "sip:a@b", Bindings: []*registrations.Binding{{Id: "x", ExpiresAt: now.UnixMilli()}}}
	resp, err := registrations.Change(rec, req, now)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.GetRemoved()) != 1 || len(resp.GetRecord().GetBindings()) != 0 || len(resp.GetRecord().GetOwed()) != 1 {
		t.Errorf("a binding with expires=0: %v", resp)
	}
}

func TestOnlyImpi(t *testing.T) {
	rec := &registrations.Record{Aor: "sip:a@b", Bindings: []*registrations.Binding{
		{Id: "x", Impi: "one", ExpiresAt: 2_000_000}, {Id: "y", Impi: "two", ExpiresAt: 2_000_000},
	}}
	req := &registrations.ApplyRequest{Aor: "sip:a@b", RemoveAll: true, OnlyImpi: "two", RemoveReason: registrations.ReasonAdmin}
	resp, err := registrations.Change(rec, req, time.UnixMilli(1))
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.GetRecord().GetBindings(); len(got) != 1 || got[0].GetImpi() != "one" || len(resp.GetRecord().GetOwed()) > 0 {
		t.Errorf("after removing one private identity: %v", resp.GetRecord())
	}
}

func TestUnregisteredService(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	resp, err := registrations.Change(nil, &registrations.ApplyRequest{Aor: "sip:a@b", UnregisteredService: true, ServerName: "sip:s"}, now)
	if err != nil {
		t.Fatal(err)
	}
	rec := resp.GetRecord()
	if !rec.GetUnregisteredService() || rec.GetAssignedAt() != now.UnixMilli() || registrations.Needless(rec, now) {
		t.Errorf("unregistered service: %v", rec)
	}
	resp, _ = registrations.Change(rec, &registrations.ApplyRequest{Aor: "sip:a@b", Bindings: []*registrations.Binding{{Id: "x", ExpiresAt: 2_000_000}}}, now)
	if resp.GetRecord().GetUnregisteredService() {
		t.Error("still marked after a registration")
	}
}

// TestChangeModel drives Change with random requests and checks it against a plain model of bindings, and that a set
// never becomes empty without owing a deregistration.
func TestChangeModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.UnixMilli(1_800_000_000_000)
		var rec *registrations.Record
		model := map[string]int64{} // binding -> expiry
		used := map[string]uint32{}
		t.Repeat(map[string]func(*rapid.T){
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
			},
			"apply": func(t *rapid.T) {
				req := &registrations.ApplyRequest{Aor: "sip:a@b", Impi: "i", RemoveAll: rapid.IntRange(0, 9).Draw(t, "all") == 0}
				for _, id := range rapid.SliceOfNDistinct(rapid.IntRange(0, 4), 0, 3, rapid.ID).Draw(t, "ids") {
					life := rapid.IntRange(0, 30).Draw(t, "life")
					req.Bindings = append(req.Bindings, &registrations.Binding{
						Id: fmt.Sprint(id), Impi: "i", ExpiresAt: now.Add(time.Duration(life) * time.Second).UnixMilli(),
					})
				}
				if rapid.Bool().Draw(t, "nonce") {
					req.Nonce = &registrations.NonceUse{
						Id: []byte{byte(rapid.IntRange(0, 2).Draw(t, "id"))}, Nc: uint32(rapid.IntRange(1, 4).Draw(t, "nc")),
						Counting: true, ExpiresAt: 1 << 50,
					}
				}
				before, _ := proto.Clone(rec).(*registrations.Record)
				resp, err := registrations.Change(rec, req, now)
				if err != nil {
					t.Fatal(err)
				}
				if !proto.Equal(before, rec) {
					t.Fatal("Change altered its argument")
				}
				for id, at := range model {
					if at <= now.UnixMilli() {
						delete(model, id)
					}
				}
				if n := req.GetNonce(); n != nil {
					refused := n.GetNc() <= used[string(n.GetId())]
					if refused != (resp.GetOutcome() == registrations.OutcomeNonceUsed) {
						t.Fatalf("nonce %x nc %d after %d: %v", n.GetId(), n.GetNc(), used[string(n.GetId())], resp.GetOutcome())
					}
					if refused {
						return
					}
					used[string(n.GetId())] = n.GetNc()
				}
				had := rec != nil && len(rec.GetBindings()) > 0
				if req.GetRemoveAll() {
					clear(model)
				}
				for _, b := range req.GetBindings() {
					delete(model, b.GetId())
					if b.GetExpiresAt() > now.UnixMilli() {
						model[b.GetId()] = b.GetExpiresAt()
					}
				}
				rec = resp.GetRecord()
				if len(rec.GetBindings()) != len(model) {
					t.Fatalf("bindings %v, model %v", rec.GetBindings(), model)
				}
				for _, b := range rec.GetBindings() {
					if model[b.GetId()] != b.GetExpiresAt() {
						t.Fatalf("binding %v, model %v", b, model)
					}
				}
				if registered := len(model) > 0; registered == (len(rec.GetOwed()) > 0) && (had || registered) {
					t.Fatalf("%d bindings with %d effects owed", len(model), len(rec.GetOwed()))
				}
			},
		})
	})
}
