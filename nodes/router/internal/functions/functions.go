// Package functions puts the router's functions onto one proxy core: which they are, in which order they are tried, and
// how a message finds its function. It is what main.go and the call-flow tests share.
package functions

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/emergency"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/overload"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/rph"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/background"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/bgcf"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/ecscf"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/icscf"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/network"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/regevent"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/registrar"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/scscf"
)

// Deps are the back ends of the functions.
type Deps struct {
	HSS        hss.Server
	Store      registrar.Store
	Challenges registrar.Challenger
	Enum       Translator // nil: ENUM as the options say
	Resolver   proxy.Resolver
	Wire       proxy.Wire
	Limiter    *overload.Limiter // nil: nothing is refused
	Now        func() time.Time
	Log        *slog.Logger
	Metrics    prometheus.Registerer
	Timers     transaction.Config
	Prompt     bool // the back ends are in this process: nothing is waited for
}

// Router is the set of functions of one node.
type Router struct {
	log       *slog.Logger
	Core      *proxy.Core
	Work      *background.Work // what goes on after an answer
	Registrar *registrar.Registrar
	Profiles  *subscriber.Cache
	functions map[network.Function]proxy.Function
	settings  atomic.Pointer[registrar.Settings]
	services  services
	follows   atomic.Pointer[config.Options] // what those who follow registrations look at
	events    *regevent.Events
	numbers   *numbers
	open      prometheus.Gauge // 1 while every REGISTER is accepted
	pool      atomic.Pointer[icscf.Pool]
	important atomic.Pointer[rph.Table]
	overrides atomic.Pointer[resolve.Overrides]
	routes    atomic.Pointer[bgcf.Routes]
	answering atomic.Pointer[ecscf.Routes] // of emergency calls
}

// New composes the functions.
func New(o *config.Options, deps Deps) *Router {
	r := &Router{log: deps.Log, Profiles: &subscriber.Cache{Size: 100_000}, Work: background.New()}
	names := r.names
	r.numbers = newNumbers(deps, names)
	r.open = prometheus.NewGauge(prometheus.GaugeOpts{Name: "ims_router_authentication_off", Help: "1 while every REGISTER is accepted without proof (authentication=accept_all)."})
	deps.Metrics.MustRegister(r.open)
	r.SetOptions(o)
	r.pool.Store(&icscf.Pool{})
	empty, _ := bgcf.Parse("")
	r.routes.Store(empty)
	r.events = r.watchers(deps)
	r.Registrar = registrar.New(registrar.Deps{
		HSS: deps.HSS, Store: deps.Store, Challenges: deps.Challenges, Profiles: r.Profiles, Settings: r.settings.Load, Now: deps.Now, Log: deps.Log,
		Metrics: registrar.NewMetrics(deps.Metrics), Servers: r.servers(deps), Watchers: r.events, Background: r.Work.Go,
	})
	r.functions = map[network.Function]proxy.Function{}
	for _, f := range []proxy.Function{ // the way of a request through the router
		icscf.New(icscf.Deps{HSS: deps.HSS, Names: names, Question: r.question, Pool: r.pool.Load, Numbers: r.numbers, Log: deps.Log}),
		scscf.New(scscf.Deps{Prompt: deps.Prompt, HSS: deps.HSS, Store: deps.Store, Registrar: r.Registrar, Events: r.events, Profiles: r.Profiles, Names: names, Services: r.services.value.Load, Sessions: r.sessions, Numbers: r.numbers, Now: deps.Now, Log: deps.Log, Metrics: deps.Metrics, Background: r.Work.Go}),
		bgcf.New(bgcf.Deps{Routes: r.routes.Load, Names: names, Numbers: r.numbers, Log: deps.Log}),
		ecscf.New(ecscf.Deps{Routes: func() ecscf.Routes { return *r.answering.Load() }, Names: names, Now: deps.Now, Log: deps.Log, Metrics: deps.Metrics}),
	} {
		r.functions[network.Function(f.Name())] = f
	}
	sentBy := sip.HostPort(o.LocalIP, o.SCSCFPort)
	r.Core = proxy.New(proxy.Config{
		Accept: r.accept,
		Local:  r.local,
		SentBy: func(proxy.Flow) string { return sentBy },
		Here:   func(host string) bool { return names().Here(host) }, Userless: true,
		StayUDP: o.DisableTCPSwitch, Reconnect: true, // every peer of a router listens
		Timers: deps.Timers, Overload: r.limit(deps.Limiter),
	}, proxy.Deps{Resolver: deps.Resolver, Wire: deps.Wire, Log: deps.Log, Observe: newObserver(deps.Metrics, func() int64 { return r.Core.Held() })})
	return r
}

// Run serves until ctx ends; then it waits for everything that was begun.
func (r *Router) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var own sync.WaitGroup
	own.Go(func() { r.Registrar.Run(ctx) })
	err := r.Core.Run(ctx)
	cancel()
	own.Wait()
	r.Work.End()
	return err
}

func (r *Router) names() *network.Names { return r.settings.Load().Names }

// SetOptions takes changed options; what a port or address would change needs a restart.
func (r *Router) SetOptions(o *config.Options) {
	r.services.setOptions(o)
	r.follows.Store(o)
	r.numbers.setOptions(o)
	answering := ecscf.ParseRoutes(o.EmergencyRoutes)
	r.answering.Store(&answering)
	names := network.New(o)
	if overrides := r.overrides.Load(); overrides != nil {
		names = names.Overridden(*overrides)
	}
	if old := r.settings.Load(); old == nil || !slices.Equal(old.Names.Hosts(), names.Hosts()) {
		r.log.Info("Local host aliases:", "hosts", names.Hosts()) // operators look for these words
	}
	r.settings.Store(&registrar.Settings{
		Names: names, MaxExpires: o.RegMaxExpires, NonceCount: o.NonceCount, NonceKey: []byte(o.NonceKey),
		AcceptAll: o.Authentication == acceptAll, ProveGiven: slices.Contains(o.NonRegisterAuth, "if_proxy_authorization_present"),
		ProveEndpoints: slices.ContainsFunc(o.NonRegisterAuth, func(v string) bool { return strings.HasPrefix(v, "initial_req_") }),
	})
	r.alarm(o)
}

const acceptAll = "accept_all"

// alarm says loudly that anybody may be anybody here.
func (r *Router) alarm(o *config.Options) {
	if o.Authentication != acceptAll {
		r.open.Set(0)
		return
	}
	r.open.Set(1)
	r.log.Error("AUTHENTICATION IS OFF: every REGISTER is accepted without proof, calls can be made in anybody's name. Take authentication=accept_all out of user_settings unless this is a closed laboratory.")
}

func (r *Router) question(m *sip.Message) (*hss.AuthorizeRequest, error) {
	return r.settings.Load().Question(m)
}

func (r *Router) sessions() scscf.Sessions {
	o := r.follows.Load()
	return scscf.Sessions{Default: o.DefaultSession, Longest: o.MaxSession}
}

// SetPool takes s-cscf.json, SetRoutes bgcf.json. A document that does not parse leaves the old one in force.
func (r *Router) SetPool(text string) error {
	p, err := icscf.ParsePool(text)
	if err != nil {
		return err
	}
	r.pool.Store(p)
	return nil
}

// SetOverrides takes dns.json, which gives this site names that others have too. A document that does not parse leaves the
// old one in force.
func (r *Router) SetOverrides(text string) error {
	overrides, err := resolve.ParseOverrides(text)
	if err != nil {
		return err
	}
	r.overrides.Store(&overrides)
	r.SetOptions(r.follows.Load())
	return nil
}

// SetPriorities takes rph.json; a document that does not parse leaves the old one in force.
func (r *Router) SetPriorities(text string) error {
	t, err := rph.Parse(text)
	if err != nil {
		return err
	}
	r.important.Store(t)
	return nil
}

// Priority is how important a request is by its Resource-Priority (RFC 4412): 0 as others, else from 1 to 15, the highest.
// Overload control lets such requests in before others.
func (r *Router) Priority(m *sip.Message) int { return r.important.Load().Priority(m) }

// SetRoutes takes bgcf.json.
func (r *Router) SetRoutes(text string) error {
	routes, err := bgcf.Parse(text)
	if err != nil {
		return err
	}
	r.routes.Store(routes)
	return nil
}

// accept finds the function for a message from the wire: the E-CSCF for an emergency call, wherever it was sent; else the
// one its Route names, else the one it asks for by Request-URI, else that of the port it came to.
func (r *Router) accept(m *sip.Message, f proxy.Flow) proxy.Function {
	if emergency.Call(m) && m.ToTag() == "" {
		return r.functions[ecscf.Name]
	}
	names := r.settings.Load().Names
	next := m.Get(sip.Route)
	if next == "" {
		next = "<" + m.URI + ">"
	}
	if u, err := sip.AddressURI(next); err == nil {
		if fn := names.Local(u); fn != "" && (m.Has(sip.Route) || u.User == "") {
			return r.functions[fn]
		}
	}
	if fn, ok := r.functions[names.ByPort(int(f.Local().Port()))]; ok {
		return fn
	}
	return r.functions[network.SCSCF]
}

func (r *Router) local(u sip.URI) proxy.Function {
	fn := r.settings.Load().Names.Local(u)
	if fn == "" {
		return nil
	}
	if f, ok := r.functions[fn]; ok {
		return f
	}
	return nil
}
