// Package thirdparty tells application servers of registrations by REGISTER requests of the S-CSCF's own (third-party
// registration, TS 24.229 5.4.1.7 and 5.4.2.1.2): which servers the filter criteria select, and what each is sent.
package thirdparty

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/internal/ifc"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/network"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/registrar"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/scscf"
)

// Deps of Servers.
type Deps struct {
	Send      func(ctx context.Context, t proxy.Target) (*proxy.Reply, error)
	Services  func() *scscf.Services
	Names     func() *network.Names
	ForceBody func() bool // force_third_party_reg_body: REGISTER and 200 go along even if a criterion does not ask for them
	Log       *slog.Logger
	Metrics   prometheus.Registerer
}

// Servers implements registrar.Servers.
type Servers struct {
	deps Deps
	sent *prometheus.CounterVec
}

var _ registrar.Servers = (*Servers)(nil)

// New makes it.
func New(deps Deps) *Servers {
	s := &Servers{deps: deps, sent: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ims_thirdparty_registers_total", Help: "REGISTER requests to application servers: accepted, refused (3xx, 4xx, 6xx), failed (408, 5xx, no answer), bad_uri (not sent).",
	}, []string{"outcome"})}
	deps.Metrics.MustRegister(s.sent)
	return s
}

// Wants implements registrar.Servers: whatever the registration type, so that who hears the beginning hears the end.
func (s *Servers) Wants(p *subscriber.Profile, id subscriber.Identity, m *sip.Message) bool {
	criteria := s.criteria(p, id)
	for _, kind := range []ifc.RegistrationType{ifc.InitialRegistration, ifc.Reregistration, ifc.Deregistration} {
		if s.next(criteria, 0, query(m, kind)) >= 0 {
			return true
		}
	}
	return false
}

// query is a REGISTER as criteria see it: a request that the registered user originates (interfaces B.10).
func query(m *sip.Message, kind ifc.RegistrationType) *ifc.Query {
	return &ifc.Query{Msg: m, Case: ifc.Originating, Registered: true, Registration: kind}
}

func (s *Servers) criteria(p *subscriber.Profile, id subscriber.Identity) []ifc.Criterion {
	criteria, _ := p.Criteria(id).Resolve(s.deps.Services().Sets)
	return criteria
}

func (s *Servers) next(criteria []ifc.Criterion, from int, q *ifc.Query) int {
	for i := ifc.Next(criteria, from, q); i >= 0; i = ifc.Next(criteria, i+1, q) {
		if criteria[i].Server.Name != s.deps.Services().Dummy {
			return i
		}
	}
	return -1
}

// Tell implements registrar.Servers: all servers at once, each within the time of its default handling.
func (s *Servers) Tell(ctx context.Context, e *registrar.Event) (deregister bool, err error) {
	m := e.Request
	if m == nil {
		m = synthetic(e.Identity.URI, s.deps.Names().HomeDomain())
	}
	criteria, q := s.criteria(e.Profile, e.Identity), query(m, e.Type)
	var wait sync.WaitGroup
	var mu sync.Mutex
	for i := s.next(criteria, 0, q); i >= 0; i = s.next(criteria, i+1, q) {
		wait.Go(func() {
			server := &criteria[i].Server
			failed := s.register(ctx, e, server, i)
			mu.Lock()
			defer mu.Unlock()
			deregister = deregister || failed && server.Terminate && e.Type != ifc.Deregistration
		})
	}
	wait.Wait()
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	return deregister, nil
}

// synthetic is the REGISTER that a user who is deregistered by the network might have sent, for criteria to look at.
func synthetic(identity, home string) *sip.Message {
	m := &sip.Message{Method: sip.REGISTER, URI: "sip:" + home}
	m.Add(sip.From, "<"+identity+">")
	m.Add(sip.To, "<"+identity+">")
	m.Add(sip.Contact, "*")
	m.Add(sip.Expires, "0")
	return m
}

// register sends one REGISTER and tells whether the server failed (TS 24.229 5.4.1.7: 408, 5xx or no answer).
func (s *Servers) register(ctx context.Context, e *registrar.Event, server *ifc.Server, index int) (failed bool) {
	u, err := sip.ParseURI(server.Name)
	if err != nil || u.Scheme != "sip" && u.Scheme != "sips" {
		s.sent.WithLabelValues("bad_uri").Inc()
		s.deps.Log.Warn("a criterion names no address of an application server", "impu", e.Identity.URI, "server", server.Name)
		return true
	}
	patience := s.deps.Services().Continued
	if server.Terminate {
		patience = s.deps.Services().Terminated
	}
	reply, err := s.deps.Send(ctx, proxy.Target{Msg: s.request(e, server, index), Liveness: max(patience, time.Millisecond)})
	outcome := "accepted"
	switch {
	case err != nil:
		return false // nothing is known
	case reply.Made != proxy.Received || reply.Msg.Status == 408 || reply.Msg.Status/100 == 5:
		outcome = "failed"
		s.deps.Log.Info("an application server does not take a registration", "impu", e.Identity.URI, "server", server.Name, "status", reply.Msg.Status)
	case reply.Msg.Status >= 300:
		outcome = "refused"
	}
	s.sent.WithLabelValues(outcome).Inc()
	return outcome == "failed"
}
