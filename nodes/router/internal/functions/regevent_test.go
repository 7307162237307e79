package functions_test

import (
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// watcher is a subscriber to alice's registration state that believes nothing but NOTIFYs.
type watcher struct {
	*world
	callID, asserted string
	cseq             int
	tag              string                       // of the notifier
	version          int                          // of the last NOTIFY, -1 before the first
	state            string                       // Subscription-State
	known            map[string]map[string]string // identity -> URI of each contact that is there -> its id
	events           []string                     // "identity uri event" of the last NOTIFY, in its order
	identities       []string
	silent           bool          // does not answer NOTIFYs
	refuse           int           // status of answers, 0 is 200
	partial          bool          // documents may tell of changes alone
	partials         int           // those that did
	at               func() string // where SUBSCRIBEs go; nil: to the first router
}

func (w *world) watcher(callID string) *watcher {
	return &watcher{world: w, callID: callID, asserted: "<" + alice + ">", version: -1}
}

type reginfo struct {
	XMLName       xml.Name `xml:"urn:ietf:params:xml:ns:reginfo reginfo"`
	Version       int      `xml:"version,attr"`
	State         string   `xml:"state,attr"`
	Registrations []struct {
		AOR      string `xml:"aor,attr"`
		ID       string `xml:"id,attr"`
		State    string `xml:"state,attr"`
		Contacts []struct {
			ID      string `xml:"id,attr"`
			State   string `xml:"state,attr"`
			Event   string `xml:"event,attr"`
			Expires string `xml:"expires,attr"`
			URI     string `xml:"uri"`
			Unknown []struct {
				Name  string `xml:"name,attr"`
				Value string `xml:",chardata"`
			} `xml:"unknown-param"`
		} `xml:"contact"`
	} `xml:"registration"`
}

// notified takes a NOTIFY.
func (s *watcher) notified(m *sip.Message) {
	s.t.Helper()
	from, _ := sip.ParseAddress(m.Get(sip.From))
	to, _ := sip.ParseAddress(m.Get(sip.To))
	if s.tag == "" {
		s.tag = m.FromTag() // the NOTIFY may be faster than the 200
	}
	number, _ := m.CSeq()
	// R28: everything is the dialog's, nothing the contact's.
	if m.URI != "sip:watcher@1.2.3.4:5060" || from.URI != alice || m.FromTag() != s.tag || to.URI != alice || m.ToTag() != "w" ||
		m.Get(sip.Contact) != "<sip:scscf.router.ims.test;transport=TCP>" || m.Get(sip.Event) != "reg;id=7" || m.Get(sip.ContentType) != "application/reginfo+xml" ||
		m.Get(sip.Route) != "<sip:10.1.0.2:5058;transport=TCP;lr>" || m.Count(sip.Route) != 1 {
		s.t.Errorf("sent as\n%s", m)
	}
	var doc reginfo
	if err := xml.Unmarshal([]byte(m.Body), &doc); err != nil || doc.State != "full" && (doc.State != "partial" || !s.partial || s.version < 0) {
		s.t.Fatalf("document: %v\n%s", err, m.Body)
	}
	if doc.Version != s.version+1 || int(number) != doc.Version+1 {
		s.t.Errorf("version %d and CSeq %d after version %d", doc.Version, number, s.version)
	}
	s.version, s.state, s.events = doc.Version, m.Get(sip.SubscriptionState), nil
	s.identities = nil
	if doc.State == "full" {
		s.known = map[string]map[string]string{}
	} else {
		s.partials++
	}
	ids := map[string]bool{}
	for _, r := range doc.Registrations {
		s.identities = append(s.identities, r.AOR)
		if s.known[r.AOR] == nil {
			s.known[r.AOR] = map[string]string{}
		}
		for _, c := range r.Contacts {
			s.events = append(s.events, r.AOR+" "+c.URI+" "+c.Event)
			if ids[c.ID] || (c.State == "active") != (c.Expires != "") {
				s.t.Errorf("contact %+v", c)
			}
			ids[c.ID] = true
			if c.State == "active" {
				s.known[r.AOR][c.URI] = c.ID
			} else if s.known[r.AOR][c.URI] == c.ID {
				delete(s.known[r.AOR], c.URI)
			}
		}
		if (r.State == "active") != (len(s.known[r.AOR]) > 0) {
			s.t.Errorf("registration %s is %s with %v", r.AOR, r.State, s.known[r.AOR])
		}
	}
}

// settle takes what comes to the edge until it is quiet, and returns the responses.
func (w *world) settle(watchers ...*watcher) (responses []*sip.Message) {
	w.t.Helper()
	for {
		m := w.edge.Maybe(time.Millisecond)
		if m == nil {
			return responses
		}
		if !m.IsRequest() {
			responses = append(responses, m)
			continue
		}
		at := slices.IndexFunc(watchers, func(s *watcher) bool { return s.callID == m.CallID() })
		if at < 0 || m.Method != sip.NOTIFY {
			w.t.Fatalf("unexpected\n%s", m)
		}
		s := watchers[at]
		s.notified(m)
		switch {
		case s.silent:
		case s.refuse != 0:
			w.edge.Reply(m, s.refuse)
		default:
			w.edge.Reply(m, 200)
		}
	}
}

// subscribe sends a SUBSCRIBE, in the dialog when there is one, and returns the answer.
func (s *watcher) subscribe(headers ...string) *sip.Message {
	s.t.Helper()
	s.cseq++
	target, to, route, record := alice, "<"+alice+">", "<sip:scscf.router.ims.test;transport=TCP;lr;orig>", "Record-Route: <sip:10.1.0.2:5058;transport=TCP;lr>\n"
	if s.tag != "" { // the edge is in the route set since the beginning of the dialog and does not say so again
		record = ""
		target, to, route = "sip:scscf.router.ims.test;transport=TCP", to+";tag="+s.tag, "<sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-orig>"
	}
	if !slices.ContainsFunc(headers, func(h string) bool { return strings.HasPrefix(h, "Event:") }) {
		headers = append(headers, "Event: reg;id=7")
	}
	if !slices.ContainsFunc(headers, func(h string) bool { return strings.HasPrefix(h, "Contact:") }) {
		headers = append(headers, "Contact: <sip:watcher@1.2.3.4:5060>")
	}
	to5054 := scscf
	if s.at != nil {
		to5054 = s.at()
	}
	s.edge.Send(to5054, fmt.Sprintf(`
SUBSCRIBE %s SIP/2.0
Route: %s
%sFrom: <sip:alice@ims.test>;tag=w
To: %s
Call-ID: %s
CSeq: %d SUBSCRIBE
P-Asserted-Identity: %s
%s
`, target, route, record, to, s.callID, s.cseq, s.asserted, strings.Join(headers, "\n")))
	responses := s.settle(s)
	if len(responses) != 1 {
		s.t.Fatalf("%d answers", len(responses))
	}
	if responses[0].Status == 200 {
		s.tag = responses[0].ToTag()
	}
	return responses[0]
}

// change registers as alice while others watch.
func (w *world) change(watchers []*watcher, callID string, headers ...string) {
	w.t.Helper()
	w.edge.Send(icscf, w.registerText("alice", callID, headers...))
	challenge := w.settle(watchers...)[0]
	w.edge.Send(icscf, w.registerText("alice", callID, append(headers, answer(challenge, "alice", "secret"))...))
	if got := w.settle(watchers...); len(got) != 1 || got[0].Status != 200 {
		w.t.Fatalf("answers %v", got)
	}
}

func (s *watcher) expect(events ...string) {
	s.t.Helper()
	if !slices.Equal(s.events, events) {
		s.t.Errorf("events %q, want %q", s.events, events)
	}
}

func TestRegEvent(t *testing.T) {
	in(t, "", func(w *world) {
		one, two := "sip:alice@1.1.1.1", "sip:alice@2.2.2.2"
		s := w.watcher("s")
		all := []*watcher{s}
		w.register("alice", "c1", "Contact: <"+one+">;expires=100;+sip.instance=\"<urn:uuid:1>\";audio")
		ok := s.subscribe()
		if ok.Get(sip.Expires) != "461" || ok.Get(sip.Contact) != "<sip:scscf.router.ims.test;transport=TCP>" || ok.ToTag() == "" ||
			!slices.Equal(ok.All(sip.RecordRoute), []string{"<sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-orig>", "<sip:10.1.0.2:5058;transport=TCP;lr>"}) {
			t.Errorf("answer\n%s", ok)
		}
		if s.version != 0 || s.state != "active;expires=461" || !slices.Equal(s.identities, []string{alice, "tel:+15551"}) {
			t.Errorf("version %d, %s, %q", s.version, s.state, s.identities)
		}
		s.expect(alice+" "+one+" registered", "tel:+15551 "+one+" created")
		w.change(all, "c2", "Contact: <"+two+">;expires=200")
		s.expect(alice+" "+one+" registered", alice+" "+two+" registered", "tel:+15551 "+one+" created", "tel:+15551 "+two+" created")
		w.change(all, "c2", "Contact: <"+two+">;expires=100")
		s.expect(alice+" "+one+" registered", alice+" "+two+" shortened", "tel:+15551 "+one+" created", "tel:+15551 "+two+" shortened")
		w.change(all, "c2", "Contact: <"+two+">;expires=200")
		s.expect(alice+" "+one+" registered", alice+" "+two+" refreshed", "tel:+15551 "+one+" created", "tel:+15551 "+two+" refreshed")
		w.change(all, "c2") // asks only
		if s.version != 3 {
			t.Errorf("version %d", s.version)
		}
		time.Sleep(101 * time.Second)
		w.background(func() error { return w.second.Registrar.Expire(w.t.Context(), alice) }) // another router notifies
		w.settle(all...)
		s.expect(alice+" "+one+" expired", alice+" "+two+" registered", "tel:+15551 "+one+" expired", "tel:+15551 "+two+" created")
		if got := s.subscribe("Expires: 60"); got.Status != 200 || got.Get(sip.Expires) != "60" || s.state != "active;expires=60" {
			t.Errorf("refreshed: %s\n%s", s.state, got)
		}
		w.change(all, "c2", "Contact: <"+two+">;expires=0")
		s.expect(alice+" "+two+" unregistered", "tel:+15551 "+two+" unregistered")
		if s.state != "terminated;reason=deactivated" {
			t.Errorf("state %s", s.state)
		}
		if got := s.subscribe(); got.Status != 481 {
			t.Errorf("in a dialog that is over: %d", got.Status)
		}
		s.tag = ""
		if got := s.subscribe(); got.Status != 480 {
			t.Errorf("to a user who is not registered: %d", got.Status)
		}
		w.counter("ims_regevent_notifies_total", "accepted", 6)
	})
}

// A subscriber that replays NOTIFYs always knows what the store holds, whatever happens in whatever order, whether they tell
// everything or what has changed.
func TestRegEventModel(t *testing.T) {
	for seed := range uint64(16) {
		partial := seed%2 == 1
		t.Run(fmt.Sprintf("%d partial=%v", seed, partial), func(t *testing.T) {
			in(t, map[bool]string{true: "reg_event_partial=Y"}[partial], func(w *world) {
				random := rand.New(rand.NewPCG(seed/2, 1))
				told := 0
				defer func() {
					if (told > 0) != partial {
						t.Errorf("%d documents told of changes alone", told)
					}
				}()
				s := w.watcher("s")
				s.partial = partial
				watch := func() []*watcher { return []*watcher{s} }
				w.change(watch(), "c0", "Contact: <sip:alice@0.0.0.0>;expires=50")
				for step := range 30 {
					if s.tag == "" || strings.HasPrefix(s.state, "terminated") {
						told += s.partials
						s = w.watcher(fmt.Sprint("s", step))
						s.partial = partial
						if got := s.subscribe(fmt.Sprintf("Expires: %d", 20+random.IntN(200))).Status; got != 200 && got != 480 {
							t.Fatalf("SUBSCRIBE: %d", got)
						}
					}
					n := random.IntN(3)
					contact := fmt.Sprintf("Contact: <sip:alice@%d.0.0.0>;expires=", n)
					action := "nothing"
					switch random.IntN(8) {
					case 0, 1, 2:
						action = "register"
						w.change(watch(), fmt.Sprint("c", n), contact+fmt.Sprint(10+random.IntN(100)))
					case 3:
						action = "remove"
						w.change(watch(), fmt.Sprint("c", n), contact+"0")
					case 4, 5:
						action = "time"
						time.Sleep(time.Duration(random.IntN(40)) * time.Second)
						w.background(func() error { return w.second.Registrar.Expire(w.t.Context(), alice) })
					case 6:
						action = "operator"
						w.background(func() error {
							_, err := w.router.Registrar.Deregister(w.t.Context(), alice, "", random.IntN(2) == 0)
							return err
						})
					case 7:
						action = "profile"
						_ = w.router.Registrar.Refresh(w.t.Context(), alice, []string{alice, "tel:+15551"}[:1+random.IntN(2)])
					}
					w.settle(watch()...)
					s.equalsStore(fmt.Sprintf("step %d, %s", step, action))
				}
				w.background(func() error {
					_, err := w.router.Registrar.Deregister(w.t.Context(), alice, "", true)
					return err
				})
				w.settle(watch()...)
				told += s.partials
			})
		})
	}
}

// With reg_event_partial a subscriber hears everything once, at each SUBSCRIBE and when the identities change, and of the
// changes otherwise (RFC 3680 5.1).
func TestRegEventPartial(t *testing.T) {
	in(t, "reg_event_partial=Y", func(w *world) {
		one, two := "sip:alice@1.1.1.1", "sip:alice@2.2.2.2"
		s := w.watcher("s")
		s.partial = true
		all := []*watcher{s}
		full := func(n int, events ...string) {
			t.Helper()
			if s.partials != n {
				t.Errorf("%d partial documents so far, want %d", s.partials, n)
			}
			s.expect(events...)
		}
		w.register("alice", "c1", "Contact: <"+one+">")
		s.subscribe()
		full(0, alice+" "+one+" registered", "tel:+15551 "+one+" created")
		w.change(all, "c2", "Contact: <"+two+">")
		full(1, alice+" "+two+" registered", "tel:+15551 "+two+" created")
		w.change(all, "c2", "Contact: <"+two+">;expires=100")
		full(2, alice+" "+two+" shortened", "tel:+15551 "+two+" shortened")
		s.subscribe("Expires: 200")
		full(2, alice+" "+one+" registered", alice+" "+two+" registered", "tel:+15551 "+one+" created", "tel:+15551 "+two+" created")
		w.change(all, "c2", "Contact: <"+two+">;expires=0")
		full(3, alice+" "+two+" unregistered", "tel:+15551 "+two+" unregistered")
		_ = w.router.Registrar.Refresh(w.t.Context(), alice, []string{alice})
		w.settle(all...)
		full(3, alice+" "+one+" registered")
		w.change(all, "c1", "Contact: <"+one+">;expires=0")
		if full(3, alice+" "+one+" unregistered", "tel:+15551 "+one+" unregistered"); s.state != "terminated;reason=deactivated" {
			t.Errorf("state %s", s.state)
		}
	})
}

// background runs what sends NOTIFYs that the test itself answers.
func (w *world) background(f func() error) {
	go func() {
		if err := f(); err != nil {
			w.t.Error(err)
		}
	}()
}

func (s *watcher) equalsStore(when string) {
	s.t.Helper()
	record, err := s.store.Get(s.t.Context(), alice)
	if err != nil {
		s.t.Fatal(err)
	}
	live := slices.ContainsFunc(record.GetSubscriptions(), func(sub *registrations.Subscription) bool { return sub.GetCallId() == s.callID })
	if s.tag == "" {
		return // not subscribed
	}
	if live == strings.HasPrefix(s.state, "terminated") {
		s.t.Errorf("%s: the state is %s, in the store %v", when, s.state, live)
	}
	if !live && len(record.GetBindings()) > 0 {
		return // over, the world went on
	}
	if len(record.GetBindings()) > 0 && !slices.Equal(s.identities, record.GetAssociated()) {
		s.t.Errorf("%s: identities %q, in the store %q", when, s.identities, record.GetAssociated())
	}
	for identity, contacts := range s.known {
		if len(contacts) != len(record.GetBindings()) {
			s.t.Errorf("%s: %s has %v, the store %v", when, identity, contacts, record.GetBindings())
		}
		for _, b := range record.GetBindings() {
			if contacts[b.GetUri()] == "" {
				s.t.Errorf("%s: %s lacks %s", when, identity, b.GetUri())
			}
		}
	}
	if len(record.GetOwed()) > 0 {
		s.t.Errorf("%s: owed is %v", when, record.GetOwed())
	}
}

func TestRegEventAuthorisation(t *testing.T) {
	in(t, "", func(w *world) {
		w.hss.SetFilterCriteria(alice, strings.Replace(toServer("10.1.0.21:5060", 0, ""), "<Method>REGISTER</Method>", "<Method>PUBLISH</Method>", 1))
		w.hss.SetBarred("tel:+15551", true)
		w.register("alice", "c1", "Contact: <sip:alice@1.1.1.1>")
		for asserted, want := range map[string]int{
			"<sip:alice@ims.test>": 200, "<sip:10.1.0.2:5058>": 200, "<sip:10.1.0.21:5060>": 200, // user, P-CSCF, server
			"<sip:bob@ims.test>": 403, "<tel:+15551>": 403, "<sip:10.1.0.3>": 403, "<sip:10.1.0.2:5059>": 403, "<sip:mallory@10.1.0.2:5058>": 403, "<sip:mallory@10.1.0.21>": 403,
		} {
			s := w.watcher("s-" + asserted)
			s.asserted = asserted
			// A request of bob's or a node's goes to the I-CSCF, as it does behind the originating half.
			s.cseq++
			s.edge.Send(icscf, fmt.Sprintf("\nSUBSCRIBE %s SIP/2.0\nRecord-Route: <sip:10.1.0.2:5058;transport=TCP;lr>\nFrom: <%[1]s>;tag=w\nTo: <%[1]s>\nCall-ID: %s\nCSeq: 1 SUBSCRIBE\nP-Asserted-Identity: %s\nEvent: reg;id=7\nContact: <sip:watcher@1.2.3.4:5060>\n", alice, s.callID, asserted))
			if got := w.settle(s); len(got) != 1 || got[0].Status != want {
				t.Errorf("%s: %v, want %d", asserted, got, want)
			}
		}
	})
}

func TestRegEventRefusals(t *testing.T) {
	in(t, "sub_max_expires=100", func(w *world) {
		w.register("alice", "c1", "Contact: <sip:alice@1.1.1.1>")
		for name, c := range map[string]struct {
			headers []string
			want    int
		}{
			"no Contact": {[]string{"Contact: "}, 400},
			"capped":     {[]string{"Expires: 5000", "Accept: text/plain, application/reginfo+xml"}, 200},
			"fetch":      {[]string{"Expires: 0"}, 200},
		} {
			s := w.watcher(name)
			got := s.subscribe(c.headers...)
			if got.Status != c.want {
				t.Errorf("%s: %d, want %d", name, got.Status, c.want)
			}
			switch name {
			case "capped":
				if got.Get(sip.Expires) != "100" {
					t.Errorf("Expires %s", got.Get(sip.Expires))
				}
			case "fetch":
				if s.state != "terminated;reason=timeout" || len(s.known[alice]) != 1 {
					t.Errorf("a fetch shows %s, %v", s.state, s.known)
				}
			}
		}
		// Other packages, and other documents, are the phone's.
		for _, header := range []string{"Event: presence", "Event: registration", "Accept: text/plain"} {
			s := w.watcher(header)
			s.cseq++
			s.edge.Send(scscf, fmt.Sprintf("\nSUBSCRIBE %s SIP/2.0\nRoute: <sip:scscf.router.ims.test;transport=TCP;lr;orig>\nFrom: <%[1]s>;tag=w\nTo: <%[1]s>\nCall-ID: %s\nCSeq: 1 SUBSCRIBE\nP-Asserted-Identity: <%[1]s>\n%s\nContact: <sip:watcher@1.2.3.4:5060>\n", alice, header, strings.Replace("Event: reg\n"+header, "Event: reg\nEvent", "Event", 1)))
			m := w.edge.Expect("SUBSCRIBE")
			if m.URI != "sip:alice@1.1.1.1" {
				t.Errorf("%s: sent to %s", header, m.URI)
			}
			w.edge.Reply(m, 489)
			w.edge.Expect("489")
		}
	})
}

// Subscriptions end: by time, and when the subscriber says that there is none or does not answer.
func TestRegEventEnds(t *testing.T) {
	in(t, "", func(w *world) {
		w.register("alice", "c1", "Contact: <sip:alice@1.1.1.1>")
		timed, refusing, silent, busy := w.watcher("timed"), w.watcher("refusing"), w.watcher("silent"), w.watcher("busy")
		timed.subscribe("Expires: 30")
		for _, s := range []*watcher{refusing, silent, busy} {
			s.subscribe()
		}
		refusing.refuse, silent.silent, busy.refuse = 481, true, 500
		time.Sleep(31 * time.Second)
		w.background(func() error { return w.router.Registrar.Expire(w.t.Context(), alice) })
		w.settle(timed)
		if timed.state != "terminated;reason=timeout" {
			t.Errorf("state %s", timed.state)
		}
		w.change([]*watcher{refusing, silent, busy}, "c2", "Contact: <sip:alice@2.2.2.2>")
		silent.version-- // it will be repeated
		time.Sleep(9 * time.Second)
		for w.edge.Maybe(time.Millisecond) != nil { // retransmissions
		}
		record, _ := w.store.Get(w.t.Context(), alice)
		if subs := record.GetSubscriptions(); len(subs) != 1 || subs[0].GetCallId() != "busy" || len(record.GetOwed()) != 0 {
			t.Errorf("left is %v, owed %v", subs, record.GetOwed())
		}
		time.Sleep(time.Minute)
	})
}

// Deregistration by the HSS or the operator and a pushed profile reach subscribers (R24, R25), unless the HSS wants none.
func TestRegEventOfTheNetwork(t *testing.T) {
	in(t, "", func(w *world) {
		one := "sip:alice@1.1.1.1"
		for name, c := range map[string]struct {
			end    func() error
			events []string
			state  string
		}{
			"HSS": {func() error {
				_, err := w.router.Registrar.Deregister(w.t.Context(), alice, "alice@ims.test", false)
				return err
			}, []string{alice + " " + one + " deactivated", "tel:+15551 " + one + " deactivated"}, "terminated;reason=deactivated"},
			"operator": {func() error {
				_, err := w.router.Registrar.Deregister(w.t.Context(), alice, "", true)
				return err
			}, []string{alice + " " + one + " deactivated", "tel:+15551 " + one + " deactivated"}, "terminated;reason=deactivated"},
			"another private identity": {func() error {
				_, err := w.router.Registrar.Deregister(w.t.Context(), alice, "other@ims.test", false)
				return err
			}, nil, "active;expires=461"},
			"silently": {func() error {
				_, err := w.router.Registrar.DeregisterSilently(w.t.Context(), alice, "")
				return err
			}, nil, "active;expires=461"},
			"profile": {func() error {
				return w.router.Registrar.Refresh(w.t.Context(), alice, []string{alice, "tel:+7"})
			}, []string{alice + " " + one + " registered", "tel:+7 " + one + " created"}, "active;expires=461"},
			"profile unchanged": {func() error {
				return w.router.Registrar.Refresh(w.t.Context(), alice, []string{alice, "tel:+15551"})
			}, nil, "active;expires=461"},
		} {
			w.change(nil, "c1", "Contact: <"+one+">")
			s := w.watcher(name)
			s.subscribe()
			s.events = nil
			w.background(c.end)
			w.settle(s)
			if !slices.Equal(s.events, c.events) || s.state != c.state {
				t.Errorf("%s: %q, %s; want %q, %s", name, s.events, s.state, c.events, c.state)
			}
			if _, err := w.router.Registrar.DeregisterSilently(w.t.Context(), alice, ""); err != nil {
				t.Error(err)
			}
			w.edge.Quiet(time.Second)
		}
	})
}

// Whom the network has deregistered is challenged, even with a nonce that may be counted on (R24).
func TestChallengeAfterNetworkDeregistration(t *testing.T) {
	in(t, "nonce_count_supported=Y", func(w *world) {
		contact := "Contact: <sip:alice@1.2.3.4>"
		w.edge.Send(icscf, w.registerText("alice", "c1", contact))
		nonce := nonceIn.FindStringSubmatch(w.edge.Expect("401").Get(sip.WWWAuthenticate))[1]
		again := func(nc string) {
			response := digest(digest("alice@ims.test", "ims.test", "secret"), nonce, nc, "cn", "auth", digest("REGISTER", "sip:ims.test"))
			w.edge.Send(icscf, w.registerText("alice", "c1", contact,
				fmt.Sprintf(`Authorization: Digest username="alice@ims.test",realm="ims.test",nonce="%s",uri="sip:ims.test",response="%s",qop=auth,nc=%s,cnonce="cn"`, nonce, response, nc)))
		}
		again("00000001")
		w.edge.Expect("200")
		again("00000002")
		w.edge.Expect("200")
		if _, err := w.router.Registrar.Deregister(w.t.Context(), alice, "", false); err != nil {
			t.Fatal(err)
		}
		again("00000003")
		if m := w.edge.Expect("401"); !strings.Contains(m.Get(sip.WWWAuthenticate), "stale=true") {
			t.Errorf("answer\n%s", m)
		}
	})
}

// What a node that dies has not told, another one tells, in order and with the version that it had.
func TestRegEventIsOwed(t *testing.T) {
	in(t, "", func(w *world) {
		w.register("alice", "c1", "Contact: <sip:alice@1.1.1.1>")
		s := w.watcher("s")
		s.subscribe()
		for _, id := range []string{"two", "three"} { // by a node that dies after each
			b := &registrations.Binding{Id: id, Uri: "sip:" + id, Impi: "alice@ims.test", Impu: alice, ExpiresAt: time.Now().Add(time.Minute).UnixMilli()}
			if _, err := w.store.Apply(w.t.Context(), &registrations.ApplyRequest{Aor: alice, Bindings: []*registrations.Binding{b}}); err != nil {
				t.Fatal(err)
			}
		}
		w.settle(s)
		if s.version != 0 {
			t.Fatalf("version %d", s.version)
		}
		w.background(func() error { return w.second.Registrar.Expire(w.t.Context(), alice) })
		w.settle(s)
		if s.version != 2 {
			t.Errorf("version %d", s.version)
		}
		s.equalsStore("after the second router has told")
	})
}
