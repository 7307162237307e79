package pcscf

import (
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// user is one registration as the edge remembers it: an implicit registration set, bound to a flow.
type user struct {
	identities []string // as P-Associated-URI lists them, URIs only; the first is the default
	canonical  []string
	service    []string // Service-Route values, first hop first
	contacts   map[string]time.Time
}

func (u *user) expires() time.Time {
	var last time.Time
	for _, at := range u.contacts {
		if at.After(last) {
			last = at
		}
	}
	return last
}

// asserts returns the user's identity that equals a canonical URI.
func (u *user) asserts(canonical string) (string, bool) {
	for i, c := range u.canonical {
		if c == canonical {
			return u.identities[i], true
		}
	}
	return "", false
}

// users knows who is registered on each flow. Several users may share a flow (a gateway, a PBX).
type users struct {
	mu     sync.RWMutex
	byFlow map[transport.ID]map[string]*user // by canonical default identity
	count  int64
}

func (us *users) init() { us.byFlow = map[transport.ID]map[string]*user{} }

// bind stores or refreshes a registration. watch is called when the flow is new here.
func (us *users) bind(id transport.ID, u *user, contact string, until time.Time, watch func()) {
	us.mu.Lock()
	flow, known := us.byFlow[id]
	if !known {
		flow = map[string]*user{}
		us.byFlow[id] = flow
	}
	u.contacts = map[string]time.Time{contact: until}
	if old := flow[u.canonical[0]]; old != nil {
		for c, at := range old.contacts {
			if c != contact {
				u.contacts[c] = at
			}
		}
	} else {
		us.count++
	}
	flow[u.canonical[0]] = u // a new value: readers keep the old one
	us.mu.Unlock()
	if !known {
		watch()
	}
}

// unbind takes one contact of a user away, and the user with the last one. contact "" means all.
func (us *users) unbind(id transport.ID, identity, contact string) {
	us.mu.Lock()
	defer us.mu.Unlock()
	flow := us.byFlow[id]
	for key, u := range flow {
		if _, ok := u.asserts(identity); !ok {
			continue
		}
		left := map[string]time.Time{}
		for c, at := range u.contacts {
			if c != contact && contact != "" {
				left[c] = at
			}
		}
		if len(left) > 0 {
			changed := *u
			changed.contacts = left
			flow[key] = &changed
			continue
		}
		us.remove(id, flow, key)
	}
}

// remove forgets one user. The lock is held.
func (us *users) remove(id transport.ID, flow map[string]*user, key string) {
	delete(flow, key)
	us.count--
	if len(flow) == 0 {
		delete(us.byFlow, id)
	}
}

// drop forgets everybody on a flow.
func (us *users) drop(id transport.ID) {
	us.mu.Lock()
	defer us.mu.Unlock()
	us.count -= int64(len(us.byFlow[id]))
	delete(us.byFlow, id)
}

// sweep forgets registrations that have lapsed.
func (us *users) sweep(now time.Time) {
	us.mu.Lock()
	defer us.mu.Unlock()
	for id, flow := range us.byFlow {
		for key, u := range flow {
			if !now.Before(u.expires()) {
				us.remove(id, flow, key)
			}
		}
	}
}

// find returns the user on a flow that has one of the given identities (canonical, in order of preference), and
// whether the flow has any user. Without a match it is the only user, or one that the flow registered.
func (us *users) find(id transport.ID, now time.Time, preferred ...string) (match *user, identity string, known bool) {
	us.mu.RLock()
	defer us.mu.RUnlock()
	flow := us.byFlow[id]
	for _, p := range preferred {
		if u := flow[p]; u != nil && now.Before(u.expires()) { // the usual case, without a search
			return u, u.identities[0], true
		}
		for _, u := range flow {
			if name, ok := u.asserts(p); ok && now.Before(u.expires()) {
				return u, name, true
			}
		}
	}
	first := ""
	for key, u := range flow {
		if now.Before(u.expires()) && (match == nil || key < first) {
			match, first = u, key
		}
	}
	return match, "", match != nil
}

func (us *users) held() int64 {
	us.mu.RLock()
	defer us.mu.RUnlock()
	return us.count
}

// canonical is the form under which identities are compared; "" when the text is no URI.
func canonical(uri string) string {
	u, err := sip.ParseURI(uri)
	if err != nil {
		return ""
	}
	return u.Canonical()
}
