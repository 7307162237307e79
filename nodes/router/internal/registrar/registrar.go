// Package registrar is the S-CSCF's registrar (TS 24.229 5.4.1): it authenticates a REGISTER, changes the bindings of
// the implicit registration set in one swap, and answers. It also works off what a registration owes to others when
// it ends. It is a step of the S-CSCF, not a function of its own: package scscf calls it.
package registrar

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
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
