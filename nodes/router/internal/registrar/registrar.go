// Package registrar is the S-CSCF's registrar (TS 24.229 5.4.1): it authenticates a REGISTER, changes the bindings of
// the implicit registration set in one swap, and answers. It also works off what a registration owes to others when
// it ends. It is a step of the S-CSCF, not a function of its own: package scscf calls it.
package registrar

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/emergency"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/authn"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/network"
)

// Store is the part of the state store that a registrar needs.
type Store interface {
	Apply(ctx context.Context, req *registrations.ApplyRequest) (*registrations.ApplyResponse, error)
	Get(ctx context.Context, aor string) (*registrations.Record, error)
	Settle(ctx context.Context, aor string, ids ...string) error
}

// Settings that an operator may change while the node runs.
type Settings struct {
	Names      *network.Names
	MaxExpires time.Duration // reg_max_expires
	NonceCount bool          // nonce_count_supported
	NonceKey   []byte
	// AcceptAll takes every REGISTER without a challenge (authentication=accept_all): for laboratories only.
	AcceptAll bool
	// ProveGiven has requests with Proxy-Authorization prove it, ProveEndpoints those of phones that registered by digest
	// (non_register_authentication).
	ProveGiven, ProveEndpoints bool
}

// Question is what the HSS is asked about a REGISTER under these settings.
func (s *Settings) Question(m *sip.Message) (*hss.AuthorizeRequest, error) {
	q, err := Question(m, s.Names.HomeDomain())
	if err == nil && s.AcceptAll {
		q.WantVector, q.Scheme = false, ""
	}
	return q, err
}

// Deps of a Registrar.
type Deps struct {
	HSS        hss.Server
	Store      Store
	Challenges Challenger
	Profiles   *subscriber.Cache
	Settings   func() *Settings
	Now        func() time.Time
	Log        *slog.Logger
	Metrics    *Metrics
	Servers    Servers  // nil: application servers hear nothing
	Watchers   Watchers // nil: there are no subscribers
	// Background runs what need not be waited for, for at most limit.
	Background func(limit time.Duration, f func(ctx context.Context))
}

// Registrar serves REGISTER.
type Registrar struct {
	deps     Deps
	pending  pending
	awaiting awaiting
}

// New makes a registrar.
func New(deps Deps) *Registrar {
	return &Registrar{deps: deps, awaiting: awaiting{by: map[string]*list.Element{}, begun: make(chan struct{}, 1)}}
}

// challengeLife is how long a phone may take to answer; with nonce counting a nonce serves until the next registration.
const challengeLife = 40 * time.Second

// Question is what the HSS is asked about a REGISTER. The I-CSCF asks it once for itself and the S-CSCF.
func Question(m *sip.Message, home string) (*hss.AuthorizeRequest, error) {
	to, err := sip.AddressURI(m.Get(sip.To))
	if err != nil {
		return nil, err
	}
	credentials, err := authn.Parse(m.Get(sip.Authorization))
	if err != nil {
		return nil, err
	}
	impi := credentials.Username
	if impi == "" {
		impi = strings.TrimPrefix(to.Canonical(), to.Scheme+":")
	}
	visited := strings.Trim(m.Get(sip.PVisitedNetworkID), `"`)
	if visited == "" {
		visited = home
	}
	kind := "REG"
	if deregisters(m) {
		kind = "DEREG"
	}
	return &hss.AuthorizeRequest{Impi: impi, Impu: to.Canonical(), VisitedNetwork: visited, AuthType: kind, Scheme: scheme(credentials), WantVector: wantsVector(credentials), WantProfile: true, Emergency: emergency.Registration(m)}, nil
}

// deregisters tells a REGISTER that only removes bindings.
func deregisters(m *sip.Message) bool {
	some := false
	for i := range m.Headers {
		if m.Headers[i].ID != sip.Contact {
			continue
		}
		v := m.Headers[i].Value
		a, err := sip.ParseAddress(v)
		if v != "*" && (err != nil || lifetime(a.Params, m.Expires(-1), time.Hour) > 0) {
			return false
		}
		some = true
	}
	return some
}

// Register answers a REGISTER. known is what the I-CSCF of this node has just been told, nil otherwise.
func (r *Registrar) Register(ctx context.Context, req *proxy.Request, known *hss.AuthorizeResponse) proxy.Decision {
	s, m := r.deps.Settings(), req.Msg
	if to, err := sip.AddressURI(m.Get(sip.To)); err != nil || (to.Scheme != "sip" && to.Scheme != "sips" && to.Scheme != "tel") {
		return proxy.AnswerReason(req, 404, "registrar", "To must be a sip: or tel: identity")
	}
	q, err := s.Question(m)
	if err != nil {
		return proxy.AnswerReason(req, 400, "registrar", err.Error())
	}
	known = r.complete(ctx, q, known)
	if status := RefusalOf(known.GetResult()); status != 0 {
		return proxy.AnswerReason(req, status, "hss", known.GetDetail())
	}
	return r.authenticate(ctx, &attempt{req: req, m: m, settings: s, impi: q.GetImpi(), impu: q.GetImpu(), known: known, kind: q.GetAuthType(), pending: q.GetWantProfile() && known.GetRegData() == nil})
}

// RefusalOf maps a result to the status of a REGISTER, 0 when it may go on. An outage is never a 403 (TS 24.229 5.3.1).
func RefusalOf(result hss.Result) int {
	switch result {
	case hss.Result_RESULT_OK:
		return 0
	case hss.Result_RESULT_UNAVAILABLE, hss.Result_RESULT_TIMEOUT:
		return 504
	case hss.Result_RESULT_UNKNOWN, hss.Result_RESULT_ROAMING_REFUSED, hss.Result_RESULT_BARRED, hss.Result_RESULT_UNSUPPORTED_SCHEME, hss.Result_RESULT_RESYNC_REFUSED:
		return 403
	case hss.Result_RESULT_NOT_REGISTERED:
		return 480
	}
	return 500
}

// attempt is one REGISTER under way.
type attempt struct {
	req        *proxy.Request
	m          *sip.Message
	settings   *Settings
	impi, impu string
	kind       string
	known      *hss.AuthorizeResponse
	nonce      *registrations.NonceUse
	assigned   bool // an external HSS has been told of a registration that it did not know
	bound      bool // the registration came about
	pending    bool // an external HSS waits for the outcome
}

func (r *Registrar) nonces(s *Settings) authn.Nonces {
	life := challengeLife
	if s.NonceCount {
		life = s.MaxExpires + challengeLife
	}
	return authn.Nonces{Key: s.NonceKey, Life: life, Now: r.deps.Now}
}

func (r *Registrar) authenticate(ctx context.Context, a *attempt) proxy.Decision {
	credentials, err := authn.Parse(a.m.Get(sip.Authorization))
	if err != nil {
		return proxy.AnswerReason(a.req, 400, "registrar", err.Error())
	}
	if a.pending && credentials.Response != "" {
		r.awaiting.answered(credentials.Nonce)
	}
	switch {
	case protected(credentials), a.settings.AcceptAll:
		return r.bind(ctx, a)
	case credentials.AUTS != "":
		return r.resynchronise(ctx, a, credentials)
	case credentials.Response != "" && credentials.AKAVersion() != 0:
		return r.answered(ctx, a, credentials)
	case a.known.GetAka() != nil:
		stale := credentials.Response != ""
		r.deps.Metrics.challenge(map[bool]string{false: "initial", true: "stale"}[stale])
		return r.challengeAKA(ctx, a, stale, false)
	case a.known.GetDigest() == nil:
		return proxy.AnswerReason(a.req, 403, "registrar", "the subscriber has no credentials")
	}
	if credentials.Response == "" {
		r.deps.Metrics.challenge("initial")
		return r.challenge(a, false)
	}
	id, expires, err := r.nonces(a.settings).Verify(credentials.Nonce, a.impi)
	if err != nil {
		r.deps.Metrics.challenge("stale")
		return r.challenge(a, true)
	}
	if err := credentials.Check(a.known.GetDigest().GetHa1(), sip.REGISTER); err != nil {
		return r.refuse(ctx, a)
	}
	a.nonce = &registrations.NonceUse{Id: id, Nc: credentials.Count(), ExpiresAt: expires.UnixMilli(), Counting: a.settings.NonceCount}
	return r.bind(ctx, a)
}

func (r *Registrar) challenge(a *attempt, stale bool) proxy.Decision {
	d := a.known.GetDigest()
	answer := a.m.NewResponse(401, "", newTag())
	nonce := r.nonces(a.settings).New(a.impi)
	r.await(a, nonce)
	answer.Add(sip.WWWAuthenticate, authn.Challenge(d.GetRealm(), nonce, d.GetQop(), stale))
	return proxy.AnswerWith(answer)
}

// refuse answers a wrong password, and tells the HSS (TS 24.229 5.4.1.2.3).
func (r *Registrar) refuse(ctx context.Context, a *attempt) proxy.Decision {
	r.deps.Metrics.registration("auth-failed", 403)
	if _, err := r.deps.HSS.Assign(ctx, &hss.AssignRequest{Impi: a.impi, Impu: a.impu, Reqtype: hss.DeregAuthFailed, ServerName: a.settings.Names.ServerName()}); err != nil {
		r.deps.Log.Info("telling the HSS of a failed authentication", "impi", a.impi, "error", err)
	}
	return proxy.AnswerReason(a.req, 403, "registrar", "wrong credentials")
}

// bind registers what an authenticated REGISTER asks for, at the HSS and then at the store.
func (r *Registrar) bind(ctx context.Context, a *attempt) proxy.Decision {
	now := r.deps.Now()
	c, err := readContacts(a.m, a.impi, now, a.settings.MaxExpires)
	if err != nil {
		return proxy.AnswerReason(a.req, 400, "registrar", err.Error())
	}
	if status, why := r.assign(ctx, a, len(c.add) > 0); status != 0 {
		return proxy.AnswerReason(a.req, status, "hss", why)
	}
	d := r.apply(ctx, a, c, now)
	if a.assigned && !a.bound && !c.emergency {
		r.unassign(ctx, a)
	}
	return d
}

// apply changes the bindings and consumes the nonce in one swap.
func (r *Registrar) apply(ctx context.Context, a *attempt, c contacts, now time.Time) proxy.Decision {
	profile, err := r.deps.Profiles.Parse(a.known.GetRegData().GetImsSubscription())
	if err != nil {
		r.deps.Log.Error("reading user profile", "impu", a.impu, "error", err)
		return proxy.AnswerReason(a.req, 500, "registrar", err.Error())
	}
	main, ok := profile.Default()
	if !ok && !emergency.Registration(a.m) {
		return proxy.AnswerReason(a.req, 403, "registrar", "every identity of the set is barred")
	}
	if c.emergency {
		return r.bindEmergency(ctx, a, profile, c)
	}
	for _, b := range c.add {
		b.Impu, b.Gruu = a.impu, a.m.HasOption(sip.Supported, "gruu")
	}
	number, _ := a.m.CSeq()
	result, err := r.deps.Store.Apply(ctx, &registrations.ApplyRequest{
		Aor: main.Key, Impi: a.impi, Bindings: c.add, Remove: c.remove, RemoveAll: c.removeAll, Nonce: a.nonce,
		Associated: profile.Unbarred(), ServerName: a.settings.Names.ServerName(), RemoveReason: registrations.ReasonUser,
		CallId: a.m.CallID(), Cseq: number, Announce: r.announce(a, profile),
	})
	if err != nil {
		r.deps.Log.Error("storing registration", "aor", main.Key, "call_id", a.m.CallID(), "error", err)
		return proxy.AnswerReason(a.req, 500, "store", reason(err))
	}
	return r.outcome(a, profile, result, now)
}

func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "the store did not answer in time"
	}
	return err.Error()
}

func (r *Registrar) outcome(a *attempt, profile *subscriber.Profile, result *registrations.ApplyResponse, now time.Time) proxy.Decision {
	switch result.GetOutcome() {
	case registrations.OutcomeNonceUsed:
		r.deps.Metrics.challenge("stale")
		return r.challenge(a, true)
	case registrations.OutcomeOutOfOrder:
		return proxy.AnswerReason(a.req, 500, "registrar", "an older REGISTER than the one that is stored (RFC 3261 10.3)")
	case registrations.OutcomeDone:
	}
	a.bound = true
	r.deps.Metrics.registration(kindOf(a, result), 200)
	answer := r.accepted(a, profile, result.GetRecord(), now)
	r.follow(a, profile, result, answer, now)
	return proxy.AnswerWith(answer)
}

func kindOf(a *attempt, result *registrations.ApplyResponse) string {
	switch {
	case a.kind == "DEREG":
		return "deregister"
	case !a.m.Has(sip.Contact):
		return "fetch"
	case result.GetWasRegistered():
		return "re-register"
	default:
		return "initial"
	}
}

// accepted is the 200 of TS 24.229 5.4.1.2.2F.
func (r *Registrar) accepted(a *attempt, profile *subscriber.Profile, record *registrations.Record, now time.Time) *sip.Message {
	ok := a.m.NewResponse(200, "", newTag())
	main := "" // of GRUUs; without it there are none
	if id, ok := profile.Default(); ok && a.m.HasOption(sip.Supported, "gruu") {
		main = id.URI
	}
	for _, b := range record.GetBindings() {
		value := contactValue(b, now)
		if gruu := PublicGRUU(main, b); gruu != "" {
			value += `;pub-gruu="` + gruu + `"`
		}
		ok.Add(sip.Contact, value)
	}
	for _, p := range a.m.All(sip.Path) {
		ok.Add(sip.Path, p)
	}
	ok.Add(sip.ServiceRoute, a.serviceRoute())
	for _, id := range profile.Unbarred() {
		ok.Add(sip.PAssociatedURI, "<"+id+">")
	}
	ok.Add(sip.Supported, "outbound, path")
	if outbound(a.m) {
		ok.Add(sip.Require, "outbound")
	}
	if v := chargingFunctions(a.known.GetRegData()); v != "" {
		ok.Add(sip.PChargingFunctionAddresses, v)
	}
	return ok
}

// outbound tells whether RFC 5626 is in force for the registration (its section 6): the edge put ob into its Path, and the
// phone registers with an instance, a reg-id and says it supports it.
func outbound(m *sip.Message) bool {
	if !m.Has(sip.Path) || !m.HasOption(sip.Supported, "outbound") {
		return false
	}
	path, err := sip.AddressURI(m.Get(sip.Path))
	if err != nil {
		return false
	}
	if _, ob := path.Param("ob"); !ob {
		return false
	}
	for _, v := range m.All(sip.Contact) {
		a, err := sip.ParseAddress(v)
		if err != nil {
			continue
		}
		_, instance := sip.Param(a.Params, "+sip.instance")
		_, reg := sip.Param(a.Params, "reg-id")
		if instance && reg {
			return true
		}
	}
	return false
}

func chargingFunctions(d *hss.RegData) string {
	var parts []string
	for _, ccf := range d.GetCcfs() {
		parts = append(parts, `ccf="`+ccf+`"`)
	}
	for _, ecf := range d.GetEcfs() {
		parts = append(parts, `ecf="`+ecf+`"`)
	}
	return strings.Join(parts, ";")
}
