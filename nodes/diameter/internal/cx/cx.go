// Package cx asks an external HSS over Cx (TS 29.228, TS 29.229) what package master answers from our own subscriber
// data, and acts on what the HSS asks of us. What the HSS has told is kept in the store as the manual describes, so that
// a registration is not assigned again with every REGISTER and warm users outlive an outage of the HSS.
package cx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/peer"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

// Peers carries requests to the HSS.
type Peers interface {
	Do(ctx context.Context, m wire.Message, host string) (wire.Message, error)
	SessionID() string
	Host() string
	Realm() string
}

// Settings may change while the client runs.
type Settings struct {
	Realm        string        // Destination-Realm of the HSS
	Host         string        // Destination-Host, may be empty
	HomeDomain   string        // realm of digests for which the HSS names none
	ServerName   string        // SIP URI of the S-CSCF that the HSS is told
	Timeout      time.Duration // diameter_timeout_ms, of each question
	ReAssign     time.Duration // hss_reregistration_time
	Registration time.Duration // longest life of a registration
	Digest       time.Duration // impu_cache_ttl: how long HA1 is not asked again
	Negative     time.Duration // how long an unknown identity is not asked again
	Schemes      Schemes
	SharedIFCs   bool // request_shared_ifcs
}

// Schemes are the names of authentication schemes in Multimedia-Auth requests (hss_mar_scheme_*).
type Schemes struct{ Unknown, Digest, AKAv1, AKAv2 string }

// Deps is what a Client works with.
type Deps struct {
	Peers    Peers
	Rows     Rows
	Settings func() Settings
	Now      func() time.Time
	Log      *slog.Logger
	Metrics  prometheus.Registerer
}

// Client implements hss.Server.
type Client struct {
	deps     Deps
	cache    cache
	negative memory[hss.Result]
	digests  memory[*hss.Digest]
	metrics  *metrics
}

// challengeLife is how long HA1 is remembered at least: the answer to a challenge is checked with what the challenge was
// made of, without a second question.
const challengeLife = 40 * time.Second

// mostRemembered of the identities that the HSS does not know, and of digests, are kept in memory.
const mostRemembered = 50000

// New makes a client.
func New(deps Deps) *Client {
	c := &Client{deps: deps, cache: cache{rows: deps.Rows, now: deps.Now}, metrics: newMetrics(deps.Metrics)}
	c.negative = memory[hss.Result]{most: mostRemembered, now: deps.Now}
	c.digests = memory[*hss.Digest]{most: mostRemembered, now: deps.Now}
	return c
}

// refusal is an answer of the HSS, or the lack of one, that ends a question.
type refusal struct {
	result hss.Result
	detail string
	code   resultCode // zero if the HSS did not answer
}

func (r *refusal) Error() string { return r.detail }

// away tells a lack of service, in which what is remembered may stand in.
func (r *refusal) away() bool {
	return r != nil && (r.result == hss.Result_RESULT_UNAVAILABLE || r.result == hss.Result_RESULT_TIMEOUT)
}

// ask sends a request and sorts its answer: a refusal, or what it holds.
func (c *Client) ask(ctx context.Context, b *wire.Builder, s Settings, name string) (wire.Message, *refusal) {
	m, err := b.Finish()
	if err != nil {
		return nil, &refusal{result: hss.Result_RESULT_UNKNOWN, detail: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	began := time.Now()
	answer, err := c.deps.Peers.Do(ctx, m, s.Host)
	c.metrics.seconds.WithLabelValues(name).Observe(time.Since(began).Seconds())
	if err != nil {
		result, label := hss.Result_RESULT_UNAVAILABLE, "no_peer"
		if errors.Is(err, peer.ErrTimeout) {
			result, label = hss.Result_RESULT_TIMEOUT, "timeout"
		}
		c.metrics.answers.WithLabelValues(name, label).Inc()
		return nil, &refusal{result: result, detail: fmt.Sprintf("%s: %s", name, err)}
	}
	code, ok := readCode(answer)
	if !ok {
		c.metrics.answers.WithLabelValues(name, "malformed").Inc()
		return nil, &refusal{result: hss.Result_RESULT_UNAVAILABLE, detail: name + ": the answer of the HSS is malformed"}
	}
	c.metrics.answers.WithLabelValues(name, code.String()).Inc()
	if result := code.result(); result != hss.Result_RESULT_OK {
		return nil, &refusal{result: result, detail: fmt.Sprintf("%s: the HSS answers %s %s", name, code, answer.Text(wire.ErrorMessage)), code: code}
	}
	return answer, nil
}

// Authorize implements hss.Server: User-Authorization if the request has an AuthType, Multimedia-Auth if a vector is
// wanted and this S-CSCF may serve the user, and the profile if the user is registered already. Who is not gets it with
// the assignment.
func (c *Client) Authorize(ctx context.Context, req *hss.AuthorizeRequest) (*hss.AuthorizeResponse, error) {
	s := c.deps.Settings()
	refuse := func(r *refusal) (*hss.AuthorizeResponse, error) {
		return &hss.AuthorizeResponse{Result: r.result, Detail: r.detail}, nil
	}
	if !identity(req.GetImpi()) || !identity(req.GetImpu()) {
		return refuse(&refusal{result: hss.Result_RESULT_UNKNOWN, detail: "a private and a public identity are needed"})
	}
	resp := &hss.AuthorizeResponse{ServerName: s.ServerName, ResultCode: hss.SubsequentRegistration}
	known, err := c.cache.find(ctx, req.GetImpu())
	if err != nil {
		return refuse(noStore(err))
	}
	warm := known != nil && known.GetRegistered() && device(known, req.GetImpi()) != nil
	if req.GetAuthType() != "" && len(req.GetResync()) == 0 {
		switch r := c.authorization(ctx, req, s, resp); {
		case r.away() && warm:
			c.metrics.stale.Inc()
			c.deps.Log.Info("the HSS does not answer; a registered user is served from memory", "impi", req.GetImpi(), "reason", r.detail)
			resp.ServerName = known.GetServerName()
		case r != nil:
			return refuse(r)
		}
	}
	if req.GetWantVector() && serves(s, resp) {
		if r := c.vector(ctx, req, s, resp, warm); r != nil {
			return refuse(r)
		}
	}
	if req.GetWantProfile() && warm && c.fresh(known, req.GetImpi(), s) {
		c.metrics.cached.WithLabelValues("hit").Inc()
		resp.RegData = data(known)
	}
	return resp, nil
}

// serves tells that the S-CSCF of this deployment is the one, or will be: the HSS names none and demands nothing special.
func serves(s Settings, resp *hss.AuthorizeResponse) bool {
	return resp.GetServerName() == s.ServerName || resp.GetServerName() == "" && len(resp.GetCapabilities().GetMandatory()) == 0
}

// fresh tells whether the HSS need not be told of a registration again.
func (c *Client) fresh(known *Subscription, impi string, s Settings) bool {
	d := device(known, impi)
	return d != nil && c.deps.Now().Sub(time.UnixMilli(d.GetAssignedAt())) < s.ReAssign
}

// authorization is User-Authorization.
func (c *Client) authorization(ctx context.Context, req *hss.AuthorizeRequest, s Settings, resp *hss.AuthorizeResponse) *refusal {
	key := "uar " + req.GetImpi() + " " + req.GetImpu()
	if r := c.refused(key); r != nil {
		return r
	}
	answer, r := c.ask(ctx, userAuthorization(c.deps.Peers, s, req), s, "uar")
	if r != nil {
		c.note(key, r, s)
		return r
	}
	a := readServer(answer)
	resp.ServerName, resp.Capabilities, resp.ResultCode = a.name, a.capabilities, a.code
	return nil
}

// refused returns what the HSS said of an identity a moment ago, if it did not know it.
func (c *Client) refused(key string) *refusal {
	if result, ok := c.negative.get(key); ok {
		c.metrics.cached.WithLabelValues("negative").Inc()
		return &refusal{result: result, detail: "the HSS did not know it a moment ago"}
	}
	return nil
}

// note remembers that the HSS does not know an identity, so that a flood of questions about it ends here.
func (c *Client) note(key string, r *refusal, s Settings) {
	if s.Negative > 0 && r.result == hss.Result_RESULT_UNKNOWN {
		c.negative.put(key, r.result, s.Negative)
	}
}

// vector is Multimedia-Auth. A digest is remembered for the answer to its challenge, and while the HSS is away for those
// who are registered.
func (c *Client) vector(ctx context.Context, req *hss.AuthorizeRequest, s Settings, resp *hss.AuthorizeResponse, warm bool) *refusal {
	key := digestKey(req.GetImpi(), req.GetImpu())
	digest := req.GetScheme() == "" || req.GetScheme() == "digest"
	if digest && len(req.GetResync()) == 0 {
		if d, age, ok := c.digests.aged(key); ok && age < max(s.Digest, challengeLife) {
			resp.Digest = d
			return nil
		}
	}
	unknown := "mar " + req.GetImpi() + " " + req.GetImpu()
	if r := c.refused(unknown); r != nil {
		return r
	}
	answer, r := c.ask(ctx, multimediaAuth(c.deps.Peers, s, req), s, "mar")
	if r.away() && digest && warm {
		if d, _, ok := c.digests.aged(key); ok {
			c.metrics.stale.Inc()
			resp.Digest = d
			return nil
		}
	}
	if r != nil {
		c.note(unknown, r, s)
		return r
	}
	if r := readVector(answer, req.GetImpi(), s, resp); r != nil {
		c.deps.Log.Warn("the HSS gives no authentication data that can be used", "impi", req.GetImpi(), "scheme", req.GetScheme(), "reason", r.detail)
		return r
	}
	if resp.Digest != nil {
		c.digests.put(key, resp.Digest, max(c.life(s), challengeLife))
	}
	return nil
}

func digestKey(impi, impu string) string { return impi + " " + impu }

// life is how long a subscription is remembered.
func (c *Client) life(s Settings) time.Duration {
	return max(2*s.ReAssign, s.Registration+10*time.Second)
}

// Locate implements hss.Server: Location-Info. Users that are served here stay reachable while the HSS is away.
func (c *Client) Locate(ctx context.Context, req *hss.LocateRequest) (*hss.LocateResponse, error) {
	s := c.deps.Settings()
	known, err := c.cache.find(ctx, req.GetImpu())
	if err != nil {
		r := noStore(err)
		return &hss.LocateResponse{Result: r.result, Detail: r.detail}, nil
	}
	resp := &hss.LocateResponse{}
	if r := c.location(ctx, req, s, resp); r != nil {
		if !r.away() || known == nil {
			return &hss.LocateResponse{Result: r.result, Detail: r.detail}, nil
		}
		c.metrics.stale.Inc()
		resp.ServerName, resp.ResultCode = known.GetServerName(), hss.FirstRegistration
	}
	if req.GetWantProfile() && known != nil && resp.GetServerName() == s.ServerName {
		resp.RegData = data(known)
	}
	return resp, nil
}

func (c *Client) location(ctx context.Context, req *hss.LocateRequest, s Settings, resp *hss.LocateResponse) *refusal {
	key := "lir " + req.GetImpu()
	if r := c.refused(key); r != nil {
		return r
	}
	answer, r := c.ask(ctx, locationInfo(c.deps.Peers, s, req), s, "lir")
	if r != nil {
		c.note(key, r, s)
		return r
	}
	a := readServer(answer)
	resp.ServerName, resp.Capabilities, resp.ResultCode, resp.Wildcard = a.name, a.capabilities, a.code, a.wildcard
	return nil
}

// State returns what is known of a public identity without asking the HSS.
func (c *Client) State(ctx context.Context, impu string) (*hss.RegData, hss.Result, string) {
	known, err := c.cache.find(ctx, impu)
	switch {
	case err != nil:
		r := noStore(err)
		return nil, r.result, r.detail
	case known == nil:
		return nil, hss.Result_RESULT_UNKNOWN, fmt.Sprintf("nothing is known of %q", impu)
	}
	return data(known), hss.Result_RESULT_OK, ""
}

// noStore is a store that cannot be asked: an outage, not a refusal.
func noStore(err error) *refusal {
	result := hss.ResultOf(err)
	return &refusal{result: result, detail: err.Error()}
}

// data is a subscription as the router takes it.
func data(s *Subscription) *hss.RegData {
	state := hss.Unregistered
	if s.GetRegistered() {
		state = hss.Registered
	}
	return &hss.RegData{State: state, ImsSubscription: s.GetProfile(), Ccfs: s.GetCcfs(), Ecfs: s.GetEcfs()}
}
