package pcscf

import (
	"strings"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// user is one registration as the edge remembers it: an implicit registration set, bound to a flow. There may be a
// hundred thousand, so it is small and holds on to no message. A change makes a new value, so who has found one may go
// on reading it.
type user struct {
	identities []string // as P-Associated-URI lists them, URIs only; the first is the default
	canonical  []string
	service    []string // Service-Route values, first hop first
	contacts   []contact
	call       uint64    // hash of the Call-ID of the last REGISTER
	cseq       uint32    // its CSeq
	until      time.Time // the last of contacts
}

type contact struct {
	key   string
	until time.Time
}

func (u *user) key() string { return u.canonical[0] }

// setContact returns contacts with one replaced, or taken away when until is zero.
func setContact(contacts []contact, key string, until time.Time) []contact {
	out := make([]contact, 0, len(contacts)+1)
	for _, c := range contacts {
		if c.key != key {
			out = append(out, c)
		}
	}
	if !until.IsZero() {
		out = append(out, contact{key, until})
	}
	return out
}

func (u *user) setContacts(contacts []contact) {
	u.contacts, u.until = contacts, time.Time{}
	for _, c := range contacts {
		if c.until.After(u.until) {
			u.until = c.until
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

// population is who is registered on one flow: most often one user, but a gateway has thousands.
type population struct {
	first      *user            // who stands for the flow when nothing says which user it is
	users      map[string]*user // by canonical default identity; nil while first is the only one
	byIdentity map[string]*user // by every canonical identity; likewise
}

func (p *population) size() int {
	switch {
	case p.users != nil:
		return len(p.users)
	case p.first != nil:
		return 1
	}
	return 0
}

// registered returns the user with a default identity, holder the one with any identity.
func (p *population) registered(key string) *user {
	switch {
	case p.users != nil:
		return p.users[key]
	case p.first != nil && p.first.key() == key:
		return p.first
	}
	return nil
}

func (p *population) holder(identity string) *user {
	if p.users != nil {
		return p.byIdentity[identity]
	}
	if p.first != nil {
		if _, ok := p.first.asserts(identity); ok {
			return p.first
		}
	}
	return nil
}

func (p *population) put(u *user) {
	if p.users == nil && (p.first == nil || p.first.key() == u.key()) {
		p.first = u
		return
	}
	if p.users == nil {
		p.users, p.byIdentity = map[string]*user{}, map[string]*user{}
		p.index(p.first)
	}
	p.take(u.key())
	p.index(u)
	if p.first == nil {
		p.first = u
	}
}

func (p *population) index(u *user) {
	p.users[u.key()] = u
	for _, c := range u.canonical {
		p.byIdentity[c] = u
	}
}

func (p *population) take(key string) {
	old := p.registered(key)
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

// each calls f for every user.
func (p *population) each(f func(*user)) {
	if p.users == nil {
		f(p.first)
		return
	}
	for _, u := range p.users {
		f(u)
	}
}

// users knows who is registered on each flow.
type users struct {
	mu     sync.RWMutex
	byFlow map[transport.ID]*population
	count  int64
	routes map[string][]string // Service-Routes, which are nearly the same for everybody
}

func (us *users) init() {
	us.byFlow, us.routes = map[transport.ID]*population{}, map[string][]string{}
}

// bind stores or refreshes a registration. watch is called when the flow is new here.
func (us *users) bind(id transport.ID, u *user, key string, until time.Time, watch func()) {
	us.mu.Lock()
	p, known := us.byFlow[id]
	if !known {
		p = &population{}
		us.byFlow[id] = p
	}
	var contacts []contact
	if old := p.registered(u.key()); old != nil {
		contacts = old.contacts
	} else {
		us.count++
	}
	u.setContacts(setContact(contacts, key, until))
	u.service = us.shared(u.service)
	p.put(u)
	us.mu.Unlock()
	if !known {
		watch()
	}
}

// shared returns one copy of a Service-Route for all who have it. The lock is held.
func (us *users) shared(routes []string) []string {
	const enough = 1000 // an S-CSCF that gives everybody another one gets no sharing
	key := strings.Join(routes, ",")
	if known, ok := us.routes[key]; ok {
		return known
	}
	own := make([]string, len(routes))
	for i, r := range routes {
		own[i] = strings.Clone(r)
	}
	if len(us.routes) < enough {
		us.routes[key] = own
	}
	return own
}

// unbind takes one contact of a user away, and the user with the last one. contact "" means all.
func (us *users) unbind(id transport.ID, identity, contact string) {
	us.mu.Lock()
	defer us.mu.Unlock()
	p := us.byFlow[id]
	if p == nil || p.holder(identity) == nil {
		return
	}
	changed := *p.holder(identity)
	left := setContact(changed.contacts, contact, time.Time{})
	if len(left) == 0 || contact == "" {
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
	if p.size() == 0 {
		delete(us.byFlow, id)
	}
}

// drop forgets everybody on a flow.
func (us *users) drop(id transport.ID) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if p := us.byFlow[id]; p != nil {
		us.count -= int64(p.size())
		delete(us.byFlow, id)
	}
}

// sweep forgets registrations that have lapsed.
func (us *users) sweep(now time.Time) {
	us.mu.Lock()
	defer us.mu.Unlock()
	for id, p := range us.byFlow {
		p.each(func(u *user) {
			if !now.Before(u.until) {
				us.remove(id, p, u.key())
			}
		})
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
	if u = p.holder(identity); u == nil || !now.Before(u.until) {
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
