package registrar

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/ifc"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
)

// Event is a registration as application servers are told of it (TS 24.229 5.4.1.7).
type Event struct {
	ID                string // of the effect by which the end is owed; "" for others
	Profile           *subscriber.Profile
	Identity          subscriber.Identity
	Type              ifc.RegistrationType
	Lasts             time.Duration // of the longest binding, 0 at the end
	Request, Response *sip.Message  // nil when no phone asked for it
}

// Servers tells application servers of registrations.
type Servers interface {
	// Wants tells whether any server is to hear of registrations of an identity with the given request.
	Wants(p *subscriber.Profile, id subscriber.Identity, m *sip.Message) bool
	// Tell tells them. The user is to be deregistered if one without which there is no service fails. The error is that of
	// ctx; then it is unknown who has heard of it.
	Tell(ctx context.Context, e *Event) (deregister bool, err error)
}

// Watchers tells subscribers of changes. An error means that the NOTIFY is still owed.
type Watchers interface {
	Notify(ctx context.Context, aor string, e *registrations.Effect) error
}

// follow is what comes after a change that a phone asked for: the phone need not wait for others to be told, and the
// store asks again if this node dies meanwhile.
func (r *Registrar) follow(a *attempt, profile *subscriber.Profile, result *registrations.ApplyResponse, answer *sip.Message, now time.Time) {
	record, e := result.GetRecord(), r.event(a, profile, result, answer, now)
	tells := e != nil && e.Lasts > 0
	if !tells && len(record.GetOwed()) == 0 {
		return
	}
	if !tells {
		r.deps.Background(settling, func(ctx context.Context) { r.settleLater(ctx, record, e) })
		return
	}
	r.deps.Background(telling+settling, func(ctx context.Context) {
		r.tell(ctx, record.GetAor(), e)
		r.settleLater(ctx, record, e)
	})
}

// event is what servers hear of a REGISTER; nil when they hear nothing.
func (r *Registrar) event(a *attempt, profile *subscriber.Profile, result *registrations.ApplyResponse, answer *sip.Message, now time.Time) *Event {
	id, ok := r.announced(a, profile)
	if !ok {
		return nil
	}
	e := &Event{Profile: profile, Identity: id, Type: ifc.Reregistration, Request: a.m, Response: answer.Clone()}
	for _, b := range result.GetRecord().GetBindings() {
		e.Lasts = max(e.Lasts, time.UnixMilli(b.GetExpiresAt()).Sub(now))
	}
	switch {
	case e.Lasts == 0:
		e.Type = ifc.Deregistration
	case !result.GetWasRegistered():
		e.Type = ifc.InitialRegistration
	}
	return e
}

// announced is the identity of which servers hear when a REGISTER is done: that of To, and the default one for a barred
// one. A REGISTER that only asks concerns nobody.
func (r *Registrar) announced(a *attempt, profile *subscriber.Profile) (subscriber.Identity, bool) {
	id, ok := profile.Find(a.impu)
	if !ok || id.Barred {
		if id, ok = profile.Default(); !ok {
			return id, false
		}
	}
	return id, r.deps.Servers != nil && a.m.Has(sip.Contact) && r.deps.Servers.Wants(profile, id, a.m)
}

func (r *Registrar) announce(a *attempt, profile *subscriber.Profile) string {
	id, ok := r.announced(a, profile)
	if !ok {
		return ""
	}
	return id.Key
}

// telling is how long application servers may take to hear of a registration.
const telling = 10 * time.Second

// tell tells servers of a registration, which may end it.
func (r *Registrar) tell(ctx context.Context, aor string, e *Event) {
	ctx, cancel := context.WithTimeout(ctx, telling)
	defer cancel()
	deregister, err := r.deps.Servers.Tell(ctx, e)
	if err != nil {
		r.deps.Log.Info("telling application servers of a registration", "aor", aor, "error", err)
	}
	if !deregister {
		return
	}
	r.deps.Log.Info("an application server fails, its user is deregistered", "aor", aor)
	if _, err := r.Deregister(ctx, aor, "", true); err != nil {
		r.deps.Log.Error("deregistering a user whose application server fails", "aor", aor, "error", err)
	}
}

// tellEnd pays an owed deregistration. last is what has just ended the registration, nil if that is not known any more.
func (r *Registrar) tellEnd(ctx context.Context, e *registrations.Effect, last *Event) error {
	if r.deps.Servers == nil {
		return nil
	}
	if last != nil && last.Identity.Key == e.GetImpu() {
		end := *last
		end.ID, end.Type, end.Lasts = e.GetId(), ifc.Deregistration, 0
		_, err := r.deps.Servers.Tell(ctx, &end)
		return err
	}
	answer, err := r.deps.HSS.Locate(ctx, &hss.LocateRequest{Impu: e.GetImpu(), WantProfile: true})
	switch {
	case err != nil:
		return fmt.Errorf("asking for the profile of %s: %w", e.GetImpu(), err)
	case answer.GetResult() == hss.Result_RESULT_UNAVAILABLE || answer.GetResult() == hss.Result_RESULT_TIMEOUT:
		return fmt.Errorf("asking for the profile of %s: hss: %s", e.GetImpu(), answer.GetDetail())
	case answer.GetResult() != hss.Result_RESULT_OK:
		return nil // the user is gone, and its servers with it
	}
	profile, err := r.deps.Profiles.Parse(answer.GetRegData().GetImsSubscription())
	if err != nil {
		r.deps.Log.Error("reading user profile", "impu", e.GetImpu(), "error", err)
		return nil // it will not become better
	}
	id, ok := profile.Find(e.GetImpu())
	if !ok {
		return nil
	}
	_, err = r.deps.Servers.Tell(ctx, &Event{ID: e.GetId(), Profile: profile, Identity: id, Type: ifc.Deregistration})
	return err
}

// pending are the effects that this node is at work on, so that it does not do one twice at the same time.
type pending struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (p *pending) claim(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ids[id] {
		return false
	}
	if p.ids == nil {
		p.ids = map[string]bool{}
	}
	p.ids[id] = true
	return true
}

func (p *pending) release(ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		delete(p.ids, id)
	}
}
