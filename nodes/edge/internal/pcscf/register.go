package pcscf

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/emergency"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
)

// registering is what a REGISTER asked for, kept until its answer.
type registering struct {
	flow     proxy.Flow
	identity string   // canonical To
	to       string   // To as written
	contacts []string // keys of the Contacts
	all      bool     // Contact: *
	call     uint64   // hash of Call-ID
	cseq     uint32
	sos      bool // for emergency calls only
}

// registerUp passes a REGISTER of a phone to the I-CSCF (TS 24.229 5.2.2).
func (h *handler) registerUp(r *proxy.Request) proxy.Decision {
	m := r.Msg
	if h.set.kind(r.Flow.Remote()) == trunk {
		return refuse(r, 405, "trunks do not register")
	}
	to, err := sip.AddressURI(m.Get(sip.To))
	if err != nil {
		return refuse(r, 400, err.Error())
	}
	cseq, _ := m.CSeq()
	reg := &registering{flow: r.Flow, identity: to.Canonical(), to: to.String(), call: callHash(m.CallID()), cseq: cseq}
	zero := m.Get(sip.Expires) == "0"
	for _, c := range m.All(sip.Contact) {
		if strings.TrimSpace(c) == "*" {
			reg.all = true
			continue
		}
		a, err := sip.ParseAddress(c)
		if err != nil {
			return refuse(r, 400, err.Error())
		}
		if emergency.Contact(c) {
			if !h.set.emergencies.registrations {
				return refuse(r, 503, "emergency registration is not offered here")
			}
			reg.sos = true
		}
		if e, ok := sip.Param(a.Params, "expires"); ok {
			zero = e == "0"
		}
		reg.contacts = append(reg.contacts, contactKey(a))
	}
	if h.edge.draining.Load() && !zero && !reg.sos {
		return h.goElsewhere(r)
	}
	h.register = reg
	h.stripUntrusted(m)
	m.Del(sip.PAssertedIdentity, sip.PPreferredIdentity, sip.Route, sip.RecordRoute)
	h.markAuthorization(m, reg)
	h.pushPath(m, r.Flow)
	m.Set(sip.PVisitedNetworkID, h.set.home)
	h.charge(m)
	m.Push(sip.Route, h.set.upstream)
	return proxy.Forward(proxy.Target{Msg: m})
}

// goElsewhere sends a phone to another edge while this one drains.
func (h *handler) goElsewhere(r *proxy.Request) proxy.Decision {
	h.edge.metrics.redirected.Inc()
	browser := r.Flow.Transport() == resolve.WS || r.Flow.Transport() == resolve.WSS // it knows URLs, not SIP names
	if h.set.drainAnswer == "503" || browser {
		away := r.Msg.NewResponse(503, "", transaction.NewTag())
		away.Add(sip.RetryAfter, "5") // by then DNS names other edges only
		return proxy.AnswerWith(away)
	}
	away := r.Msg.NewResponse(305, "", transaction.NewTag())
	away.Add(sip.Contact, "<sip:"+h.set.sipName+";transport="+r.Flow.Transport().String()+">")
	return proxy.AnswerWith(away)
}

// pushPath puts the edge on the way back to the phone (RFC 3327 5.1, RFC 5626 5.1). What a phone itself wrote there
// goes; a proxy in front of us (a second Via) may have its say.
func (h *handler) pushPath(m *sip.Message, f proxy.Flow) {
	ob := ""
	if m.Count(sip.Via) == 1 {
		ob = ";ob"
		m.Del(sip.Path)
	}
	m.Push(sip.Path, "<sip:"+h.set.key.token(f.ID(), nil)+"@"+h.set.coreAddr+";transport=TCP;lr"+ob+">")
	if !m.HasOption(sip.Require, "path") {
		m.Add(sip.Require, "path")
	}
	if !m.HasOption(sip.Supported, "path") {
		m.Add(sip.Supported, "path")
	}
}

// markAuthorization tells the S-CSCF how far this flow is known (TS 24.229 5.2.2.2: ip-assoc). What a phone says in
// this place is a lie.
func (h *handler) markAuthorization(m *sip.Message, reg *registering) {
	values := m.All(sip.Authorization)
	m.Del(sip.Authorization)
	for _, v := range values {
		scheme, params, ok := parseChallenge(v)
		if !ok {
			continue // the S-CSCF sees a REGISTER without credentials and challenges it
		}
		mark, hasResponse := "", false
		kept := params[:0]
		for _, p := range params {
			switch strings.ToLower(p.name) {
			case "integrity-protected":
				continue
			case "response":
				hasResponse = strings.Trim(p.value, `" `) != ""
			}
			kept = append(kept, p)
		}
		if hasResponse {
			mark = "ip-assoc-pending"
		}
		if u, _ := h.edge.users.with(reg.flow.ID(), h.edge.deps.Now(), reg.identity); u != nil {
			mark = "ip-assoc-yes"
		}
		if mark != "" {
			kept = append(kept, param{"integrity-protected", `"` + mark + `"`})
		}
		m.Add(sip.Authorization, printChallenge(scheme, kept))
	}
}

// registered takes the answer to a REGISTER.
func (h *handler) registered(m *sip.Message) {
	switch {
	case m.Status == 401:
		hideKeys(m)
	case m.Status >= 200 && m.Status < 300:
		h.bindContacts(m)
		h.timeFlow(m)
	}
	stripToPhone(m)
}

// Within these times a phone with outbound must send a keep-alive, lest a NAT forgets the flow (RFC 5626 4.4, 10.3).
const (
	flowTimerUDP    = "25"
	flowTimerStream = "120"
)

// timeFlow tells a phone whose registration uses outbound how often to keep its flow alive.
func (h *handler) timeFlow(m *sip.Message) {
	if !m.HasOption(sip.Require, "outbound") || m.Has(sip.FlowTimer) {
		return
	}
	if h.register.flow.Reliable() {
		m.Set(sip.FlowTimer, flowTimerStream)
		return
	}
	m.Set(sip.FlowTimer, flowTimerUDP)
}

// hideKeys takes the AKA keys, which are for the edge alone, out of a challenge (TS 24.229 5.2.2.1).
func hideKeys(m *sip.Message) {
	without(m, sip.WWWAuthenticate, "ck", "ik")
	without(m, sip.ProxyAuthenticate, "ck", "ik")
}

// without takes parameters out of credentials or challenges; values that cannot be read in full go as a whole.
func without(m *sip.Message, id sip.ID, names ...string) {
	if !m.Has(id) {
		return
	}
	values := m.All(id)
	m.Del(id)
	for _, v := range values {
		scheme, params, ok := parseChallenge(v)
		if !ok {
			continue
		}
		kept := params[:0]
		for _, p := range params {
			if !slices.Contains(names, strings.ToLower(p.name)) {
				kept = append(kept, p)
			}
		}
		m.Add(id, printChallenge(scheme, kept))
	}
}

// bindContacts remembers, for each Contact of the request, what the registrar has granted.
func (h *handler) bindContacts(m *sip.Message) {
	reg, edge, users := h.register, h.edge, h.edge.registry(h.register)
	id, now := reg.flow.ID(), edge.deps.Now()
	if reg.all {
		users.unbind(id, reg.identity, "")
		return
	}
	granted := map[string]time.Duration{}
	for _, c := range m.All(sip.Contact) {
		if a, err := sip.ParseAddress(c); err == nil {
			text, _ := sip.Param(a.Params, "expires")
			seconds, err := strconv.ParseUint(text, 10, 31)
			if err != nil {
				seconds = uint64(m.Expires(0)) //nolint:gosec // not negative
			}
			granted[contactKey(a)] = time.Duration(seconds) * time.Second //nolint:gosec // 31 bits
		}
	}
	for _, key := range reg.contacts {
		life := granted[key]
		if life <= 0 {
			users.unbind(id, reg.identity, key)
			continue
		}
		u := reg.user(m)
		users.bind(id, u, key, now.Add(life), func() {
			if reg.flow.Reliable() { // a UDP flow never closes
				reg.flow.OnClose(func() { users.drop(id) })
			}
		})
		if h.set.watch == watchAlways && users == &edge.users {
			edge.watches.follow(id, u, now)
		}
	}
}

// user makes what the edge remembers of a 200.
func (reg *registering) user(m *sip.Message) *user {
	associated := m.All(sip.PAssociatedURI)
	u := &user{call: reg.call, cseq: reg.cseq, service: m.All(sip.ServiceRoute), identities: make([]string, 0, max(1, len(associated))), canonical: make([]string, 0, max(1, len(associated)))}
	for _, v := range associated {
		if a, err := sip.ParseAddress(v); err == nil {
			if c := canonical(a.URI); c != "" {
				u.add(a.URI, c)
			}
		}
	}
	if len(u.identities) == 0 {
		u.add(reg.to, reg.identity)
	}
	return u
}

// add copies an identity, so that it does not keep the message alive.
func (u *user) add(identity, canonical string) {
	identity = strings.Clone(identity)
	if canonical == identity {
		canonical = identity
	} else {
		canonical = strings.Clone(canonical)
	}
	u.identities, u.canonical = append(u.identities, identity), append(u.canonical, canonical)
}

// contactKey is what makes two Contacts the same binding: instance and reg-id (RFC 5626 6), else the URI.
func contactKey(a sip.Address) string {
	if instance, ok := sip.Param(a.Params, "+sip.instance"); ok && instance != "" {
		regID, _ := sip.Param(a.Params, "reg-id")
		return strings.ToLower(instance) + ":" + regID
	}
	u, err := sip.ParseURI(a.URI)
	if err != nil {
		return strings.Clone(a.URI)
	}
	return u.Scheme + ":" + u.User + "@" + strings.ToLower(u.Host) + ":" + strconv.Itoa(u.Port)
}
