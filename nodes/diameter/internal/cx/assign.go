package cx

import (
	"context"
	"fmt"
	"slices"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
)

// Server-Assignment-Type (TS 29.229 6.3.15).
const (
	assignNothing          uint32 = 0
	assignRegistration     uint32 = 1
	assignReRegistration   uint32 = 2
	assignUnregistered     uint32 = 3
	assignTimeout          uint32 = 4
	assignUser             uint32 = 5
	assignAdministrative   uint32 = 8
	assignAuthentication   uint32 = 9
	assignAuthenticationTO uint32 = 10
)

// assignmentOf maps the request types that change nothing but the HSS's state.
func assignmentOf(reqtype string) (uint32, bool) {
	switch reqtype {
	case hss.DeregUser:
		return assignUser, true
	case hss.DeregTimeout:
		return assignTimeout, true
	case hss.DeregAdmin:
		return assignAdministrative, true
	case hss.DeregAuthFailed:
		return assignAuthentication, true
	case hss.DeregAuthTimeout:
		return assignAuthenticationTO, true
	}
	return 0, false
}

// Assign implements hss.Server: Server-Assignment, where the HSS does not know already what it would be told.
func (c *Client) Assign(ctx context.Context, req *hss.AssignRequest) (*hss.AssignResponse, error) {
	s := c.deps.Settings()
	if req.GetServerName() != "" {
		s.ServerName = req.GetServerName()
	}
	known, err := c.cache.find(ctx, req.GetImpu())
	if err != nil {
		return refuseAssign(noStore(err))
	}
	switch req.GetReqtype() {
	case hss.Reg:
		return c.register(ctx, req, s, known)
	case hss.Call:
		return c.call(ctx, req, s, known)
	case hss.DeregAuthFailed, hss.DeregAuthTimeout:
		return c.failedAuthentication(ctx, req, s, known)
	case hss.DeregUser, hss.DeregAdmin, hss.DeregTimeout:
		return c.deregister(ctx, req, s, known)
	}
	return refuseAssign(&refusal{result: hss.Result_RESULT_UNKNOWN, detail: fmt.Sprintf("reqtype %q is not known", req.GetReqtype())})
}

func refuseAssign(r *refusal) (*hss.AssignResponse, error) {
	return &hss.AssignResponse{Result: r.result, Detail: r.detail}, nil
}

func stateOf(known *Subscription) string {
	if known == nil {
		return hss.NotRegistered
	}
	return data(known).GetState()
}

// register tells the HSS of a registration that it has not been told of, or not for hss_reregistration_time.
func (c *Client) register(ctx context.Context, req *hss.AssignRequest, s Settings, known *Subscription) (*hss.AssignResponse, error) {
	if !identity(req.GetImpi()) {
		return refuseAssign(&refusal{result: hss.Result_RESULT_UNKNOWN, detail: "no private identity was given"})
	}
	again := known.GetRegistered() && device(known, req.GetImpi()) != nil
	answer := func(known *Subscription, before string) (*hss.AssignResponse, error) {
		d := data(known)
		d.State, d.PreviousState = hss.Registered, before
		return &hss.AssignResponse{RegData: d}, nil
	}
	if again && !req.GetNoCache() && c.fresh(known, req.GetImpi(), s) {
		c.metrics.cached.WithLabelValues("hit").Inc()
		return answer(known, hss.Registered)
	}
	kind := assignRegistration
	if again {
		kind = assignReRegistration
	}
	c.metrics.cached.WithLabelValues("miss").Inc()
	next, r := c.assignment(ctx, req, s, kind)
	switch {
	case r.away() && again:
		c.metrics.stale.Inc()
		return answer(known, hss.Registered)
	case r != nil:
		return refuseAssign(r)
	}
	before := stateOf(known)
	next.Registered = true
	if err := c.cache.put(ctx, next, req.GetImpi(), c.life(s)); err != nil {
		return refuseAssign(noStore(err))
	}
	return answer(next, before)
}

// call makes sure that a user is served here, unregistered if need be.
func (c *Client) call(ctx context.Context, req *hss.AssignRequest, s Settings, known *Subscription) (*hss.AssignResponse, error) {
	if known != nil && !req.GetNoCache() {
		c.metrics.cached.WithLabelValues("hit").Inc()
		d := data(known)
		d.PreviousState = d.GetState()
		return &hss.AssignResponse{RegData: d}, nil
	}
	kind := assignUnregistered
	if known.GetRegistered() {
		kind = assignNothing
	}
	c.metrics.cached.WithLabelValues("miss").Inc()
	next, r := c.assignment(ctx, req, s, kind)
	registered := known.GetRegistered()
	if r != nil && r.code.experimental && (r.code.code == errorAlreadyRegistered || r.code.code == errorInAssignmentType) {
		// We have forgotten a registration that the HSS remembers.
		registered = true
		next, r = c.assignment(ctx, req, s, assignNothing)
	}
	switch {
	case r.away() && known != nil:
		c.metrics.stale.Inc()
		next = known
	case r != nil:
		return refuseAssign(r)
	default:
		next.Registered = registered
		if err := c.cache.put(ctx, next, "", c.life(s)); err != nil {
			return refuseAssign(noStore(err))
		}
	}
	d := data(next)
	d.PreviousState = stateOf(known)
	return &hss.AssignResponse{RegData: d}, nil
}

// failedAuthentication tells the HSS; the registration stays as it is. The digest that was remembered is forgotten: the
// password may have changed.
func (c *Client) failedAuthentication(ctx context.Context, req *hss.AssignRequest, s Settings, known *Subscription) (*hss.AssignResponse, error) {
	c.digests.drop(digestKey(req.GetImpi(), req.GetImpu()))
	kind, _ := assignmentOf(req.GetReqtype())
	if _, r := c.ask(ctx, serverAssignment(c.deps.Peers, s, req, kind), s, "sar"); r != nil {
		return refuseAssign(r)
	}
	d := &hss.RegData{State: hss.NotRegistered}
	if known != nil {
		d = data(known)
	}
	return &hss.AssignResponse{RegData: d}, nil
}

// deregister tells the HSS that a private identity of a set is registered no more, and forgets it even if the HSS
// refuses. What is not known here is told only as an effect that a registration owes: that record is the truth.
func (c *Client) deregister(ctx context.Context, req *hss.AssignRequest, s Settings, known *Subscription) (*hss.AssignResponse, error) {
	if known == nil && req.GetEffectId() == "" {
		return refuseAssign(&refusal{result: hss.Result_RESULT_NOT_REGISTERED, detail: fmt.Sprintf("%q is not registered", req.GetImpu())})
	}
	kind, _ := assignmentOf(req.GetReqtype())
	_, r := c.ask(ctx, serverAssignment(c.deps.Peers, s, req, kind), s, "sar")
	if r.away() {
		return refuseAssign(r)
	}
	d := &hss.RegData{State: hss.NotRegistered}
	if known != nil {
		d = data(known)
		d.State = hss.NotRegistered
		if err := c.cache.drop(ctx, known, req.GetImpi()); err != nil {
			return refuseAssign(noStore(err))
		}
	}
	if r != nil {
		c.deps.Log.Info("the HSS refuses a deregistration, which is done nevertheless", "impu", req.GetImpu(), "reason", r.detail)
	}
	return &hss.AssignResponse{RegData: d}, nil
}

// assignment asks for a profile with Server-Assignment and reads it. A wildcard that the HSS names is asked for once.
func (c *Client) assignment(ctx context.Context, req *hss.AssignRequest, s Settings, kind uint32) (*Subscription, *refusal) {
	key := "sar " + req.GetImpi() + " " + req.GetImpu()
	if r := c.refused(key); r != nil {
		return nil, r
	}
	answer, r := c.ask(ctx, serverAssignment(c.deps.Peers, s, req, kind), s, "sar")
	if r != nil {
		c.note(key, r, s)
		return nil, r
	}
	next, malformed := readSubscription(answer)
	if malformed != nil {
		return nil, malformed
	}
	profile, err := subscriber.Parse(next.GetProfile())
	if err != nil {
		return nil, &refusal{result: hss.Result_RESULT_UNAVAILABLE, detail: "sar: the profile of the HSS: " + err.Error()}
	}
	if next.Keys, err = keysOf(profile, req.GetImpu()); err != nil {
		return nil, &refusal{result: hss.Result_RESULT_BARRED, detail: "sar: " + err.Error()}
	}
	next.ServerName = s.ServerName
	return next, nil
}

// keysOf lists the public identities of a profile, the default one first, and the one that was asked for, which a
// wildcard may stand for.
func keysOf(profile *subscriber.Profile, asked string) ([]string, error) {
	main, ok := profile.Default()
	if !ok {
		return nil, fmt.Errorf("every identity of the set of %q is barred", asked)
	}
	keys := []string{main.Key}
	for _, id := range profile.Identities {
		if !slices.Contains(keys, id.Key) {
			keys = append(keys, id.Key)
		}
	}
	if asked = canonical(asked); asked != "" && !slices.Contains(keys, asked) {
		keys = append(keys, asked)
	}
	return keys, nil
}
