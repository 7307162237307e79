package cx

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/peer"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
)

// Registration is a private identity in a set, named by its default public identity.
type Registration struct{ Primary, IMPI string }

// Routers is where registrations are: any router acts for all.
type Routers interface {
	// Deregister ends registrations; notify tells those who subscribe to them.
	Deregister(ctx context.Context, list []Registration, notify bool) error
	// Push replaces the profile of a registered set.
	Push(ctx context.Context, primary, profile string) error
}

// Serve answers RTR and PPR of the HSS (TS 29.228 6.1.3, 6.2.2); it is a peer.Handler.
func (c *Client) Serve(routers Routers) peer.Handler {
	return func(ctx context.Context, m wire.Message) wire.Message {
		ctx, cancel := context.WithTimeout(ctx, serveTimeout)
		defer cancel()
		name, code := "unsupported", resultCode{code: wire.CommandUnsupported}
		switch m.Command() {
		case wire.RegistrationTermination:
			name, code = "rtr", c.terminate(ctx, m, routers)
		case wire.PushProfile:
			name, code = "ppr", c.push(ctx, m, routers)
		}
		c.metrics.sent.WithLabelValues(name, code.String()).Inc()
		return c.answer(m, code)
	}
}

// answer is an answer with nothing but its result.
func (c *Client) answer(m wire.Message, code resultCode) wire.Message {
	flags := byte(0)
	if !code.experimental && code.code >= 3000 && code.code < 4000 {
		flags = wire.FlagError
	}
	b := wire.NewAnswer(m, flags).
		Begin(wire.VendorSpecificApplicationID).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.AuthApplicationID, wire.Cx).End()
	if code.experimental {
		b.Begin(wire.ExperimentalResult).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.ExperimentalResultCode, code.code).End()
	} else {
		b.Uint32(wire.ResultCode, code.code)
	}
	b.Uint32(wire.AuthSessionState, noStateMaintained).Text(wire.OriginHost, c.deps.Peers.Host()).Text(wire.OriginRealm, c.deps.Peers.Realm())
	supported(b, c.deps.Settings().SharedIFCs)
	peer.ProxyInfo(b, m)
	out, err := b.Finish()
	if err != nil {
		return nil // the request's Proxy-Info fills a message: nobody waits for the answer
	}
	return out
}

// Reason-Code (TS 29.229 6.3.17).
const (
	permanentTermination uint32 = 0
	newServerAssigned    uint32 = 1
	serverChange         uint32 = 2
	removeSCSCF          uint32 = 3
)

// terminate is RTR: the private identities lose their registrations, of the public identities that are named or of all.
func (c *Client) terminate(ctx context.Context, m wire.Message, routers Routers) resultCode {
	impis := []string{m.Text(wire.UserName)}
	var impus []string
	reason := permanentTermination
	for s := m.AVPs(); s.Next(); {
		switch {
		case s.Kind.Is(wire.PublicIdentity):
			impus = append(impus, string(s.Data))
		case s.Kind.Is(wire.AssociatedIdentities):
			for in := wire.Group(s.Data); in.Next(); {
				if in.Kind.Is(wire.UserName) && !slices.Contains(impis, string(in.Data)) {
					impis = append(impis, string(in.Data))
				}
			}
		case s.Kind.Is(wire.DeregistrationReason):
			if data, ok := wire.Find(s.Data, wire.ReasonCode); ok {
				reason, _ = wire.Number(data)
			}
		}
	}
	found, err := c.registrationsOf(ctx, impis, impus)
	if err != nil {
		c.deps.Log.Error("RTR", "impi", impis[0], "error", err)
		return resultCode{code: wire.UnableToComply}
	}
	if len(found) == 0 {
		return resultCode{errorUserUnknown, true}
	}
	// NEW_SERVER_ASSIGNED and REMOVE_S-CSCF: the user is told nothing, for another S-CSCF serves him (TS 29.228 6.1.3.1).
	notify := reason == permanentTermination || reason == serverChange
	var list []Registration
	for _, f := range found {
		list = append(list, Registration{f.set.GetKeys()[0], f.impi})
	}
	if err := routers.Deregister(ctx, list, notify); err != nil {
		c.deps.Log.Error("RTR", "impi", impis[0], "error", err)
		return resultCode{code: wire.UnableToComply}
	}
	for _, f := range found {
		if err := c.cache.drop(ctx, f.set, f.impi); err != nil {
			c.deps.Log.Error("forgetting a registration that the HSS has ended", "impi", f.impi, "error", err)
			return resultCode{code: wire.UnableToComply}
		}
		for _, key := range f.set.GetKeys() {
			c.digests.drop(digestKey(f.impi, key))
		}
	}
	c.deps.Log.Info("deregistered by the HSS", "impi", impis[0], "registrations", len(list), "reason", reason)
	return resultCode{code: wire.Success}
}

// registered is a private identity in a set that is known.
type registered struct {
	set  *Subscription
	impi string // "" for a set that is served unregistered
}

// registrationsOf finds what private identities have registered: of the public identities, or of all if none are given.
func (c *Client) registrationsOf(ctx context.Context, impis, impus []string) ([]registered, error) {
	var out []registered
	add := func(s *Subscription, impi string) {
		if s == nil || slices.ContainsFunc(out, func(r registered) bool { return r.impi == impi && r.set.GetKeys()[0] == s.GetKeys()[0] }) {
			return
		}
		out = append(out, registered{s, impi})
	}
	for _, impi := range impis {
		candidates := impus
		if len(impus) == 0 {
			var err error
			if candidates, err = c.cache.sets(ctx, impi); err != nil {
				return nil, err
			}
		}
		for _, impu := range candidates {
			s, err := c.cache.find(ctx, impu)
			switch {
			case err != nil:
				return nil, err
			case device(s, impi) != nil:
				add(s, impi)
			case s != nil && !s.GetRegistered() && len(impus) > 0:
				add(s, "")
			}
		}
	}
	return out, nil
}

// push is PPR: profile and charging functions of a user change. Who is not known here is served with the new ones when
// he comes, so there is nothing to do.
func (c *Client) push(ctx context.Context, m wire.Message, routers Routers) resultCode {
	impi := m.Text(wire.UserName)
	text := m.Text(wire.UserData)
	var ccfs, ecfs []string
	charging, hasCharging := m.Find(wire.ChargingInformation)
	if hasCharging {
		ccfs, ecfs = readCharging(charging)
	}
	var keys []string
	if text != "" {
		profile, err := subscriber.Parse(text)
		if err == nil {
			keys, err = keysOf(profile, "")
		}
		if err != nil {
			c.deps.Log.Warn("PPR", "impi", impi, "error", err)
			return resultCode{errorNotSupportedUserData, true}
		}
	}
	mains, err := c.pushed(ctx, impi, keys)
	for _, main := range mains {
		err = errors.Join(err, c.change(ctx, main, text, keys, routers, func(s *Subscription) {
			if hasCharging {
				s.Ccfs, s.Ecfs = ccfs, ecfs
			}
		}))
	}
	if err != nil {
		c.deps.Log.Error("PPR", "impi", impi, "error", err)
		return resultCode{code: wire.UnableToComply}
	}
	return resultCode{code: wire.Success}
}

// pushed lists the default identities of the known sets that a push is for: the one that the profile describes, else all
// of the private identity.
func (c *Client) pushed(ctx context.Context, impi string, keys []string) ([]string, error) {
	if len(keys) == 0 {
		return c.cache.sets(ctx, impi)
	}
	for _, key := range keys {
		s, err := c.cache.find(ctx, key)
		switch {
		case err != nil:
			return nil, err
		case s == nil:
		case s.GetKeys()[0] != keys[0]:
			return nil, fmt.Errorf("the default identity changes from %s to %s: deregister the set", s.GetKeys()[0], keys[0])
		default:
			return keys[:1], nil
		}
	}
	return nil, nil
}

// change stores a pushed profile, and gives it to a router if the set is registered. New sessions see it before the
// router does, so a push that fails may be repeated.
func (c *Client) change(ctx context.Context, main, text string, keys []string, routers Routers, with func(*Subscription)) error {
	isRegistered := false
	var old []string
	err := c.cache.update(ctx, main, func(s *Subscription) {
		with(s)
		isRegistered, old = s.GetRegistered(), slices.Clone(s.GetKeys())
		if text != "" {
			s.Profile, s.Keys = text, keys
		}
	})
	if err != nil || text == "" {
		return err
	}
	for _, key := range keys[1:] {
		if err := c.cache.point(ctx, publicRow+key, main); err != nil {
			return err
		}
	}
	for _, key := range old {
		if key != main && !slices.Contains(keys, key) {
			if err := c.cache.unpoint(ctx, publicRow+key, main); err != nil {
				return err
			}
		}
	}
	if isRegistered {
		return routers.Push(ctx, main, text)
	}
	return nil
}
