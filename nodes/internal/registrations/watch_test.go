package registrations_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
)

// watched applies requests one after the other, a second apart, and prints what the record owes to others than the HSS.
type watched struct {
	t   *testing.T
	now time.Time
	rec *registrations.Record
}

func (w *watched) apply(req *registrations.ApplyRequest) *registrations.ApplyResponse {
	w.t.Helper()
	w.now = w.now.Add(time.Second)
	req.Aor = "sip:a@x"
	before, _ := proto.Clone(w.rec).(*registrations.Record)
	resp, err := registrations.Change(w.rec, req, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	if !proto.Equal(before, w.rec) {
		w.t.Error("the old record was changed")
	}
	if resp.GetOutcome() == registrations.OutcomeDone {
		w.rec = resp.GetRecord()
	}
	return resp
}

// owed takes what is owed: "dereg <identity>" and "<subscription> v<version> [ended] <contact>=<event>...", a ! for gone ones.
func (w *watched) owed() string {
	var out, ids []string
	for _, e := range w.rec.GetOwed() {
		if slices.Contains(ids, e.GetId()) {
			w.t.Errorf("two effects of id %s", e.GetId())
		}
		ids = append(ids, e.GetId())
		switch e.GetKind() {
		case registrations.EffectKind_EFFECT_THIRD_PARTY_DEREGISTER:
			out = append(out, "dereg "+e.GetImpu())
		case registrations.EffectKind_EFFECT_NOTIFY:
			line := fmt.Sprintf("%s v%d", e.GetSubscription().GetId(), e.GetSubscription().GetNotified())
			if ended := e.GetSubscription().GetEnded(); ended != "" {
				line += " " + ended
			}
			for _, c := range e.GetContacts() {
				line += " " + c.GetBinding().GetId() + "=" + c.GetEvent()
				if c.GetGone() {
					line += "!"
				}
			}
			out = append(out, line)
		}
	}
	w.rec = registrations.Settled(w.rec, ids...)
	return strings.Join(out, ", ")
}

func (w *watched) expect(what, want string) {
	w.t.Helper()
	if got := w.owed(); got != want {
		w.t.Errorf("%s: owed is %q, want %q", what, got, want)
	}
}

func (w *watched) binding(id string, lasts time.Duration) *registrations.ApplyRequest {
	return &registrations.ApplyRequest{Associated: []string{"sip:a@x"}, Bindings: []*registrations.Binding{{Id: id, Impi: "a@x", ExpiresAt: w.now.Add(lasts).UnixMilli()}}}
}

func (w *watched) subscription(id string, cseq uint32, lasts time.Duration) *registrations.ApplyRequest {
	return &registrations.ApplyRequest{Subscribe: &registrations.Subscription{Id: id, Cseq: cseq, ExpiresAt: w.now.Add(lasts).UnixMilli()}}
}

func TestSubscribersAreOwedEveryChange(t *testing.T) {
	w := &watched{t: t, now: time.Unix(1000, 0)}
	w.apply(w.binding("one", time.Hour))
	w.expect("nobody watches", "")
	w.apply(w.subscription("s", 1, time.Hour))
	w.expect("subscribed", "s v0 one=")
	w.apply(w.binding("two", 100*time.Second))
	w.expect("created", "s v1 one= two=created")
	w.apply(w.binding("one", 2*time.Hour))
	w.apply(w.binding("one", time.Minute))
	w.expect("refreshed and shortened", "s v2 one=refreshed two=, s v3 one=shortened two=")
	w.apply(w.subscription("t", 1, time.Hour))
	w.expect("only the new one is told", "t v0 one= two=")
	w.apply(&registrations.ApplyRequest{})
	w.expect("nothing has changed", "")
	w.apply(&registrations.ApplyRequest{Associated: []string{"sip:a@x", "tel:+1"}})
	w.expect("identities", "s v4 one= two=, t v1 one= two=")
	w.now = w.now.Add(65 * time.Second)
	w.apply(&registrations.ApplyRequest{})
	w.expect("lapsed", "s v5 one=expired! two=, t v2 one=expired! two=")
	w.apply(w.subscription("t", 2, 0))
	w.expect("unsubscribed", "t v3 timeout two=")
	w.apply(&registrations.ApplyRequest{RemoveAll: true, RemoveReason: registrations.ReasonAdmin})
	w.expect("deregistered", "s v6 deactivated two=deactivated!")
	if len(w.rec.GetSubscriptions()) != 0 || !registrations.Needless(w.rec, w.now) {
		t.Errorf("left is %v", w.rec)
	}
}

func TestSubscriptionsEnd(t *testing.T) {
	w := &watched{t: t, now: time.Unix(1000, 0)}
	w.apply(w.binding("one", time.Hour))
	w.apply(w.subscription("s", 5, time.Minute))
	w.apply(w.subscription("u", 5, time.Hour))
	w.owed()
	if resp := w.apply(w.subscription("s", 5, time.Hour)); resp.GetOutcome() != registrations.OutcomeOutOfOrder {
		t.Errorf("an old SUBSCRIBE: %v", resp.GetOutcome())
	}
	if at, ok := registrations.Due(w.rec); !ok || at.Sub(w.now) > time.Minute {
		t.Errorf("due at %v, %v", at, ok)
	}
	w.now = w.now.Add(time.Minute)
	w.apply(&registrations.ApplyRequest{})
	w.expect("time is over", "s v1 timeout one=")
	w.apply(w.binding("one", time.Hour))
	w.apply(&registrations.ApplyRequest{Unsubscribe: "u"})
	w.expect("who cannot be reached is forgotten", "")
	w.apply(w.subscription("s", 1, time.Hour))
	w.owed()
	w.apply(&registrations.ApplyRequest{RemoveAll: true, Silent: true})
	w.expect("silently", "")
	if len(w.rec.GetSubscriptions()) != 0 {
		t.Error("a silent deregistration leaves subscriptions")
	}
}

func TestApplicationServersAreOwedTheEnd(t *testing.T) {
	w := &watched{t: t, now: time.Unix(1000, 0)}
	with := func(impu string) *registrations.ApplyRequest {
		req := w.binding("one", time.Minute)
		req.Announce = impu
		return req
	}
	w.apply(w.binding("one", time.Minute))
	w.apply(&registrations.ApplyRequest{RemoveAll: true})
	w.expect("nobody was told", "")
	w.apply(with("sip:a@x"))
	w.apply(with("tel:+1"))
	w.apply(with("tel:+1"))
	w.apply(&registrations.ApplyRequest{RemoveAll: true})
	back := w.binding("one", time.Minute)
	w.apply(back) // before anybody was told
	w.expect("came back", "")
	w.now = w.now.Add(time.Hour)
	w.apply(&registrations.ApplyRequest{})
	w.expect("lapsed", "dereg sip:a@x, dereg tel:+1")
	w.apply(&registrations.ApplyRequest{RemoveAll: true})
	w.expect("once", "")
}
