package pcscf

import (
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// user is one registration as the edge remembers it: an implicit registration set, bound to a flow. A change makes a
// new value, so who has found one may go on reading it.
type user struct {
	identities []string // as P-Associated-URI lists them, URIs only; the first is the default
	canonical  []string
	service    []string // Service-Route values, first hop first
	contacts   map[string]time.Time
	until      time.Time // the last of contacts
}

func (u *user) key() string { return u.canonical[0] }

func (u *user) setContacts(contacts map[string]time.Time) {
	u.contacts, u.until = contacts, time.Time{}
	for _, at := range contacts {
		if at.After(u.until) {
			u.until = at
		}
	}
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

// population is who is registered on one flow. Several users may share a flow (a gateway, a PBX), thousands even.
type population struct {
	users      map[string]*user // by canonical default identity
	byIdentity map[string]*user // by every canonical identity
	first      *user            // who stands for the flow when nothing says which user it is
}

func (p *population) put(u *user) {
	p.take(u.key())
	p.users[u.key()] = u
	for _, c := range u.canonical {
		p.byIdentity[c] = u
	}
	if p.first == nil {
		p.first = u
	}
}

func (p *population) take(key string) {
	old := p.users[key]
	if old == nil {
		return
	}
	delete(p.users, key)
	for _, c := range old.canonical {
		if p.byIdentity[c] == old {
			delete(p.byIdentity, c)
		}
	}
	if p.first == old {
		p.first = nil
		for _, u := range p.users {
			p.first = u
			break
		}
	}
}

// users knows who is registered on each flow.
type users struct {
	mu     sync.RWMutex
	byFlow map[transport.ID]*population
	count  int64
}

func (us *users) init() { us.byFlow = map[transport.ID]*population{} }

// bind stores or refreshes a registration. watch is called when the flow is new here.
func (us *users) bind(id transport.ID, u *user, contact string, until time.Time, watch func()) {
	us.mu.Lock()
	p, known := us.byFlow[id]
	if !known {
		p = &population{users: map[string]*user{}, byIdentity: map[string]*user{}}
		us.byFlow[id] = p
	}
	contacts := map[string]time.Time{contact: until}
	if old := p.users[u.key()]; old != nil {
		for c, at := range old.contacts {
			if c != contact {
				contacts[c] = at
			}
		}
	} else {
		us.count++
	}
	u.setContacts(contacts)
	p.put(u)
	us.mu.Unlock()
	if !known {
		watch()
	}
}

// unbind takes one contact of a user away, and the user with the last one. contact "" means all.
func (us *users) unbind(id transport.ID, identity, contact string) {
	us.mu.Lock()
	defer us.mu.Unlock()
	p := us.byFlow[id]
	if p == nil || p.byIdentity[identity] == nil {
		return
	}
	changed := *p.byIdentity[identity]
	left := map[string]time.Time{}
	for c, at := range changed.contacts {
		if c != contact && contact != "" {
			left[c] = at
		}
	}
	if len(left) == 0 {
		us.remove(id, p, changed.key())
		return
	}
	changed.setContacts(left)
	p.put(&changed)
}

// remove forgets one user. The lock is held.
func (us *users) remove(id transport.ID, p *population, key string) {
	p.take(key)
	us.count--
	if len(p.users) == 0 {
		delete(us.byFlow, id)
	}
}

// drop forgets everybody on a flow.
func (us *users) drop(id transport.ID) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if p := us.byFlow[id]; p != nil {
		us.count -= int64(len(p.users))
		delete(us.byFlow, id)
	}
}

// sweep forgets registrations that have lapsed.
func (us *users) sweep(now time.Time) {
	us.mu.Lock()
	defer us.mu.Unlock()
	for id, p := range us.byFlow {
		for key, u := range p.users {
			if !now.Before(u.until) {
				us.remove(id, p, key)
			}
		}
	}
}

// with returns the user on a flow that has an identity (canonical), and the identity as registered.
func (us *users) with(id transport.ID, now time.Time, identity string) (u *user, name string) {
	us.mu.RLock()
	defer us.mu.RUnlock()
	p := us.byFlow[id]
	if p == nil {
		return nil, ""
	}
	if u = p.byIdentity[identity]; u == nil || !now.Before(u.until) {
		return nil, ""
	}
	name, _ = u.asserts(identity)
	return u, name
}

// any returns the user on a flow that has an identity, else the one who stands for the flow; nil when nobody is
// registered on it. name is empty unless the identity was found.
func (us *users) any(id transport.ID, now time.Time, identity string) (u *user, name string) {
	if u, name = us.with(id, now, identity); u != nil {
		return u, name
	}
	us.mu.RLock()
	defer us.mu.RUnlock()
	p := us.byFlow[id]
	if p == nil || p.first == nil {
		return nil, ""
	}
	if now.Before(p.first.until) {
		return p.first, ""
	}
	for _, u := range p.users { // until the next sweep
		if now.Before(u.until) {
			return u, ""
		}
	}
	return nil, ""
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
