package registrar

import (
	"context"
	"net/url"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/authn"
)

// userParam of the Service-Route marks requests of phones that registered by digest; it holds the private identity.
const userParam = "username"

// serviceRoute is where the phone is to send its requests.
func (a *attempt) serviceRoute() string {
	route := a.settings.Names.ServiceRoute()
	if !a.settings.ProveEndpoints || a.nonce == nil {
		return route
	}
	return strings.TrimSuffix(route, ">") + ";" + userParam + "=" + escaped(a.impi) + ">"
}

// Prove has the sender of a request outside a dialog, other than REGISTER, show that it is the served user impu of the set
// aor, if an operator wants that of such requests (TS 24.229 5.4.3.6). True: the request may go on, without its proof.
func (r *Registrar) Prove(ctx context.Context, req *proxy.Request, impu, aor string) (proxy.Decision, bool) {
	s, m := r.deps.Settings(), req.Msg
	owner, marked := req.Own.Param(userParam)
	if s.AcceptAll || (!s.ProveGiven || !m.Has(sip.ProxyAuthorization)) && (!s.ProveEndpoints || !marked) {
		return proxy.Decision{}, true
	}
	given, err := proof(m, s.Names.HomeDomain())
	if err != nil {
		return proxy.AnswerReason(req, 400, "registrar", err.Error()), false
	}
	impi := given.Username
	if impi == "" {
		if impi, err = url.PathUnescape(owner); err != nil || impi == "" {
			_, impi, _ = strings.Cut(impu, ":")
		}
	}
	answer, err := r.deps.HSS.Authorize(ctx, &hss.AuthorizeRequest{Impi: impi, Impu: impu, VisitedNetwork: s.Names.HomeDomain(), Scheme: schemeDigest, WantVector: true})
	if err != nil {
		answer = &hss.AuthorizeResponse{Result: hss.ResultOf(err), Detail: err.Error()}
	}
	switch status := RefusalOf(answer.GetResult()); {
	case status != 0:
		r.deps.Metrics.proof("refused")
		return proxy.AnswerReason(req, status, "hss", answer.GetDetail()), false
	case answer.GetDigest() == nil:
		r.deps.Metrics.proof("refused")
		return proxy.AnswerReason(req, 403, "registrar", impi+" has no credentials for a digest"), false
	}
	return r.check(ctx, req, &proving{s, given, impi, aor, answer.GetDigest()})
}

// proving is one such authentication under way.
type proving struct {
	settings  *Settings
	given     authn.Credentials
	impi, aor string
	digest    *hss.Digest
}

func (r *Registrar) check(ctx context.Context, req *proxy.Request, p *proving) (proxy.Decision, bool) {
	challenge := func(stale bool) (proxy.Decision, bool) {
		r.deps.Metrics.proof(map[bool]string{false: "challenged", true: "stale"}[stale])
		answer := req.Msg.NewResponse(407, "", newTag())
		answer.Add(sip.ProxyAuthenticate, authn.Challenge(p.digest.GetRealm(), r.nonces(p.settings).New(p.impi), p.digest.GetQop(), stale))
		return proxy.AnswerWith(answer), false
	}
	if p.given.Response == "" {
		return challenge(false)
	}
	id, expires, err := r.nonces(p.settings).Verify(p.given.Nonce, p.impi)
	if err != nil {
		return challenge(true)
	}
	if err := p.given.Check(p.digest.GetHa1(), req.Msg.Method); err != nil {
		r.deps.Metrics.proof("wrong")
		return proxy.AnswerReason(req, 403, "registrar", "wrong credentials"), false
	}
	result, err := r.deps.Store.Apply(ctx, &registrations.ApplyRequest{Aor: p.aor, Impi: p.impi, Nonce: &registrations.NonceUse{
		Id: id, Nc: p.given.Count(), ExpiresAt: expires.UnixMilli(), Counting: p.settings.NonceCount,
	}})
	switch {
	case err != nil:
		r.deps.Metrics.proof("failed")
		r.deps.Log.Error("consuming a nonce", "aor", p.aor, "call_id", req.Msg.CallID(), "error", err)
		return proxy.AnswerReason(req, 500, "store", reason(err)), false
	case result.GetOutcome() == registrations.OutcomeNonceUsed:
		return challenge(true)
	}
	r.deps.Metrics.proof("accepted")
	dropProof(req.Msg, p.digest.GetRealm())
	return proxy.Decision{}, true
}

// proof is the Proxy-Authorization for a realm; one that names none is for everybody.
func proof(m *sip.Message, realm string) (authn.Credentials, error) {
	for _, v := range m.All(sip.ProxyAuthorization) {
		c, err := authn.Parse(v)
		if err != nil {
			return c, err
		}
		if c.Realm == "" || c.Realm == realm {
			return c, nil
		}
	}
	return authn.Credentials{}, nil
}

// DropProof takes out of a request what is meant for this node alone (RFC 3261 22.3), where it asks for such.
func (r *Registrar) DropProof(m *sip.Message) {
	if s := r.deps.Settings(); (s.ProveGiven || s.ProveEndpoints) && m.Has(sip.ProxyAuthorization) {
		dropProof(m, s.Names.HomeDomain())
	}
}

func dropProof(m *sip.Message, realm string) {
	values := m.All(sip.ProxyAuthorization)
	m.Del(sip.ProxyAuthorization)
	for _, v := range values {
		if c, err := authn.Parse(v); err == nil && c.Realm != "" && c.Realm != realm {
			m.Add(sip.ProxyAuthorization, v)
		}
	}
}
