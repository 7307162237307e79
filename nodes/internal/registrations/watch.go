package registrations

import (
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
)

// Events of contacts (RFC 3680 5.2.3) and reasons of ended subscriptions (RFC 6665 4.1.3).
const (
	EventCreated      = "created"
	EventRefreshed    = "refreshed"
	EventShortened    = "shortened"
	EventExpired      = "expired"
	EventUnregistered = "unregistered"
	EventDeactivated  = "deactivated"

	EndedTimeout     = "timeout"
	EndedDeactivated = "deactivated"
)

// announce keeps account of the identities whose registration application servers have been told of: they are owed its
// end when the last binding goes, and no longer when one comes back before they have been told.
func (c *change) announce() {
	if len(c.rec.Bindings) == 0 {
		for _, impu := range c.rec.Announced {
			c.rec.Owed = append(c.rec.Owed, &Effect{
				Id: effectID(c.rec.GetAor(), "announced "+impu, c.now), Kind: EffectKind_EFFECT_THIRD_PARTY_DEREGISTER, Impu: impu,
			})
		}
		c.rec.Announced = nil
		return
	}
	know := func(impu string) {
		if impu != "" && !slices.Contains(c.rec.Announced, impu) {
			c.rec.Announced = append(c.rec.Announced, impu)
		}
	}
	know(c.req.GetAnnounce())
	c.rec.Owed = slices.DeleteFunc(c.rec.Owed, func(e *Effect) bool {
		if e.GetKind() != EffectKind_EFFECT_THIRD_PARTY_DEREGISTER {
			return false
		}
		know(e.GetImpu())
		return true
	})
}

// lateSubscribe is RFC 3261 12.2.2: a SUBSCRIBE that was overtaken by a later one of its dialog changes nothing.
func (c *change) lateSubscribe() bool {
	s := c.req.GetSubscribe()
	return s != nil && slices.ContainsFunc(c.rec.Subscriptions, func(old *Subscription) bool {
		return old.GetId() == s.GetId() && s.GetCseq() <= old.GetCseq()
	})
}

// subscribe adds, refreshes or forgets a subscription.
func (c *change) subscribe() {
	if id := c.req.GetUnsubscribe(); id != "" {
		c.rec.Subscriptions = slices.DeleteFunc(c.rec.Subscriptions, func(s *Subscription) bool { return s.GetId() == id })
		c.rec.Owed = slices.DeleteFunc(c.rec.Owed, func(e *Effect) bool { return e.GetSubscription().GetId() == id })
	}
	if c.req.GetSubscribe() == nil {
		return
	}
	s, _ := proto.Clone(c.req.GetSubscribe()).(*Subscription)
	at := slices.IndexFunc(c.rec.Subscriptions, func(old *Subscription) bool { return old.GetId() == s.GetId() })
	if at < 0 {
		s.Notified = 0
		c.rec.Subscriptions = append(c.rec.Subscriptions, s)
		return
	}
	s.Notified = c.rec.Subscriptions[at].GetNotified()
	c.rec.Subscriptions[at] = s
}

// notify owes each subscriber the new state: after a change all, else those who have subscribed or whose time is over.
// What a NOTIFY says is written down here, so that its repeat says the same whoever sends it.
func (c *change) notify() {
	c.subscribe()
	if len(c.rec.Subscriptions) == 0 {
		return
	}
	contacts, changed := c.contacts()
	same := slices.Equal(c.identities, c.rec.Associated)
	changed = changed || !same
	c.rec.Subscriptions = slices.DeleteFunc(c.rec.Subscriptions, func(s *Subscription) bool {
		switch {
		case len(c.rec.Bindings) == 0:
			s.Ended = EndedDeactivated
		case s.GetExpiresAt() <= c.now.UnixMilli():
			s.Ended = EndedTimeout
		case !changed && s.GetId() != c.req.GetSubscribe().GetId():
			return false
		}
		if !c.req.GetSilent() {
			told, _ := proto.Clone(s).(*Subscription)
			c.rec.Owed = append(c.rec.Owed, &Effect{
				Id:   effectID(c.rec.GetAor(), s.GetId()+" "+strconv.Itoa(int(s.GetNotified())), c.now),
				Kind: EffectKind_EFFECT_NOTIFY, Subscription: told, Contacts: contacts, Identities: slices.Clone(c.rec.Associated),
				Changes: same && s.GetNotified() > 0 && s.GetId() != c.req.GetSubscribe().GetId(),
			})
			s.Notified++
		}
		return s.Ended != ""
	})
}

// contacts are those that have gone in this change and then those that are there, and whether any has changed.
func (c *change) contacts() (out []*ContactState, changed bool) {
	for _, b := range c.before {
		event := ""
		switch {
		case c.bound(b.GetId()) != nil:
			continue
		case slices.Contains(c.resp.Lapsed, b.GetId()):
			event = EventExpired
		default:
			event = eventOf(c.req.GetRemoveReason())
		}
		changed = true
		out = append(out, &ContactState{Binding: b, Event: event, Gone: true})
	}
	for _, b := range c.rec.Bindings {
		event := ""
		switch {
		case slices.Contains(c.resp.Created, b.GetId()):
			event = EventCreated
		case slices.Contains(c.resp.Refreshed, b.GetId()):
			event = EventRefreshed
			if slices.ContainsFunc(c.before, func(old *Binding) bool { return old.GetId() == b.GetId() && b.GetExpiresAt() < old.GetExpiresAt() }) {
				event = EventShortened
			}
		}
		changed = changed || event != ""
		shown, _ := proto.Clone(b).(*Binding)
		out = append(out, &ContactState{Binding: shown, Event: event})
	}
	return out, changed
}

func (c *change) bound(id string) *Binding {
	if i := slices.IndexFunc(c.rec.Bindings, func(b *Binding) bool { return b.GetId() == id }); i >= 0 {
		return c.rec.Bindings[i]
	}
	return nil
}

func eventOf(reason string) string {
	switch reason {
	case ReasonAdmin:
		return EventDeactivated
	case ReasonTimeout:
		return EventExpired
	default:
		return EventUnregistered
	}
}
