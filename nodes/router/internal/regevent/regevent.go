// Package regevent is the notifier of registration state (RFC 3680, TS 24.229 5.4.2.1): it takes subscriptions to the
// users of the S-CSCF and tells subscribers of every change. Subscriptions live in the registration record, and each
// NOTIFY is an effect that a change owes (package registrations), so any router may send it.
package regevent

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/network"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/registrar"
)

const (
	defaultExpires = 3761 * time.Second // RFC 3680 4.4
	most           = 30                 // subscriptions to one set
	patience       = 8 * time.Second    // with a subscriber that does not answer
	mediaType      = "application/reginfo+xml"
)

// Deps of Events.
type Deps struct {
	Send    func(ctx context.Context, t proxy.Target) (*proxy.Reply, error)
	Store   registrar.Store
	Settle  func(record *registrations.Record) // works off what a record owes, in the background
	Names   func() *network.Names
	Longest func() time.Duration // sub_max_expires
	Partial func() bool          // reg_event_partial: NOTIFYs tell what has changed
	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Events implements registrar.Watchers and takes subscriptions.
type Events struct {
	deps          Deps
	subscriptions *prometheus.CounterVec
	notifications *prometheus.CounterVec
}

var _ registrar.Watchers = (*Events)(nil)

// New makes it.
func New(deps Deps) *Events {
	e := &Events{
		deps:          deps,
		subscriptions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_regevent_subscribes_total", Help: "SUBSCRIBE requests for registration state, by SIP status."}, []string{"status"}),
		notifications: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_regevent_notifies_total", Help: "NOTIFY requests: accepted, refused (the subscription stays), lost (the subscription is over)."}, []string{"outcome"}),
	}
	deps.Metrics.MustRegister(e.subscriptions, e.notifications)
	return e
}

// Wants tells whether a request is for this package: a SUBSCRIBE to the reg package by someone who reads its documents.
// Other packages are a matter of the user's phones and application servers.
func Wants(m *sip.Message) bool {
	event, _, _ := strings.Cut(m.Get(sip.Event), ";")
	if m.Method != sip.SUBSCRIBE || strings.TrimSpace(event) != "reg" {
		return false
	}
	if !m.Has(sip.Accept) {
		return true
	}
	for _, value := range m.All(sip.Accept) {
		for _, kind := range sip.SplitList(value) {
			kind, _, _ = strings.Cut(kind, ";")
			if strings.EqualFold(strings.TrimSpace(kind), mediaType) {
				return true
			}
		}
	}
	return false
}

// Subscribe answers a SUBSCRIBE to the state of a user's set; aor is the set's default identity.
func (e *Events) Subscribe(ctx context.Context, r *proxy.Request, aor string, p *subscriber.Profile) proxy.Decision {
	d := e.subscribe(ctx, r, aor, p)
	e.subscriptions.WithLabelValues(strconv.Itoa(d.Message().Status)).Inc()
	return d
}

func (e *Events) subscribe(ctx context.Context, r *proxy.Request, aor string, p *subscriber.Profile) proxy.Decision {
	m, now := r.Msg, e.deps.Now()
	record, err := e.deps.Store.Get(ctx, aor)
	if err != nil {
		e.deps.Log.Error("reading registration", "aor", aor, "call_id", m.CallID(), "error", err)
		return proxy.AnswerReason(r, 500, "store", err.Error())
	}
	contact, err := sip.ParseAddress(m.Get(sip.Contact))
	id := m.ToTag()
	at := slices.IndexFunc(record.GetSubscriptions(), func(s *registrations.Subscription) bool {
		return s.GetId() == id && s.GetCallId() == m.CallID() && s.GetExpiresAt() > now.UnixMilli()
	})
	known := at >= 0
	switch {
	case err != nil:
		return proxy.AnswerReason(r, 400, "regevent", "a SUBSCRIBE needs a Contact (RFC 6665 4.1.2.1)")
	case !authorised(m, p, record):
		return proxy.AnswerReason(r, 403, "regevent", "neither the user nor its P-CSCF nor an application server of its")
	case id != "" && !known:
		return proxy.AnswerReason(r, 481, "regevent", "no such subscription")
	case len(record.GetBindings()) == 0:
		return proxy.AnswerReason(r, 480, "regevent", aor+" is not registered")
	case !known && len(record.GetSubscriptions()) >= most:
		return proxy.AnswerReason(r, 480, "regevent", "too many subscriptions to "+aor)
	}
	if id == "" {
		id = transaction.NewTag()
	}
	lasts := min(time.Duration(m.Expires(int(defaultExpires/time.Second)))*time.Second, e.deps.Longest())
	wanted := subscription(m, id, contact.URI, now.Add(lasts))
	if known { // a request within a dialog changes its target but not its route set (RFC 3261 12.2)
		wanted.Route = record.GetSubscriptions()[at].GetRoute()
	}
	result, err := e.deps.Store.Apply(ctx, &registrations.ApplyRequest{Aor: aor, Subscribe: wanted})
	switch {
	case err != nil:
		e.deps.Log.Error("storing subscription", "aor", aor, "call_id", m.CallID(), "error", err)
		return proxy.AnswerReason(r, 500, "store", err.Error())
	case result.GetOutcome() != registrations.OutcomeDone:
		return proxy.AnswerReason(r, 500, "regevent", "an older SUBSCRIBE than the one that is stored (RFC 3261 12.2.2)")
	}
	ok := m.NewResponse(200, "", id)
	ok.Add(sip.Expires, strconv.Itoa(int(lasts/time.Second)))
	ok.Add(sip.Contact, "<"+e.deps.Names().ServerName()+">")
	e.deps.Settle(result.GetRecord())
	return proxy.AnswerWith(ok)
}

// subscription is the dialog that a SUBSCRIBE makes or refreshes, seen from the notifier (RFC 3261 12.1.1).
func subscription(m *sip.Message, id, target string, expires time.Time) *registrations.Subscription {
	number, _ := m.CSeq()
	local := m.Get(sip.To)
	if m.ToTag() == "" {
		local += ";tag=" + id
	}
	return &registrations.Subscription{
		Id: id, Target: target, Route: m.All(sip.RecordRoute), CallId: m.CallID(), Local: local, Remote: m.Get(sip.From),
		Cseq: number, ExpiresAt: expires.UnixMilli(), Event: m.Get(sip.Event),
	}
}

// Notify implements registrar.Watchers. A subscriber that cannot be reached any more loses its subscription (RFC 6665
// 4.2.2).
func (e *Events) Notify(ctx context.Context, aor string, owed *registrations.Effect) error {
	s := owed.GetSubscription()
	reply, err := e.deps.Send(ctx, proxy.Target{Msg: e.request(owed), Liveness: patience})
	switch {
	case err != nil:
		return err
	case reply.Made == proxy.Received && reply.Msg.Status < 300:
		e.notifications.WithLabelValues("accepted").Inc()
		return nil
	case reply.Made == proxy.Received && !ends(reply.Msg.Status):
		e.notifications.WithLabelValues("refused").Inc()
		return nil
	}
	e.notifications.WithLabelValues("lost").Inc()
	if s.GetEnded() != "" {
		return nil
	}
	e.deps.Log.Info("a subscriber does not take a NOTIFY, its subscription is over", "aor", aor, "call_id", s.GetCallId(), "status", reply.Msg.Status)
	_, err = e.deps.Store.Apply(ctx, &registrations.ApplyRequest{Aor: aor, Unsubscribe: s.GetId()})
	return err
}

// ends tells the responses that end a subscription (RFC 5057 5.1).
func ends(status int) bool {
	switch status {
	case 404, 405, 408, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604:
		return true
	}
	return false
}

// request is the NOTIFY: it goes along the dialog, with the dialog's From, To and Contact (RFC 6665 4.2.2).
func (e *Events) request(owed *registrations.Effect) *sip.Message {
	s, now := owed.GetSubscription(), e.deps.Now()
	m := &sip.Message{Method: sip.NOTIFY, URI: s.GetTarget()}
	m.Add(sip.MaxForwards, "70")
	for _, v := range s.GetRoute() {
		m.Add(sip.Route, v)
	}
	m.Add(sip.From, s.GetLocal())
	m.Add(sip.To, s.GetRemote())
	m.Add(sip.CallID, s.GetCallId())
	m.Add(sip.CSeq, strconv.FormatUint(uint64(s.GetNotified())+1, 10)+" "+sip.NOTIFY)
	m.Add(sip.Contact, "<"+e.deps.Names().ServerName()+">")
	m.Add(sip.Event, s.GetEvent())
	if s.GetEnded() != "" {
		m.Add(sip.SubscriptionState, "terminated;reason="+s.GetEnded())
	} else {
		m.Add(sip.SubscriptionState, "active;expires="+strconv.FormatInt(seconds(s.GetExpiresAt(), now), 10))
	}
	m.Add(sip.ContentType, mediaType)
	m.Body = document(owed, now, e.deps.Partial())
	return m
}

// seconds left until a time in Unix milliseconds, rounded up, at least 0.
func seconds(at int64, now time.Time) int64 { return max(0, (at-now.UnixMilli()+999)/1000) }
