package scscf

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/internal/ifc"
)

// Services are the settings of the application server chains. Its value is replaced as a whole.
type Services struct {
	Sets            ifc.Sets        // shared_ifcs
	Fallback        []ifc.Criterion // fallback_ifcs
	ApplyFallback   bool            // apply_fallback_ifcs
	RejectUnmatched bool            // reject_if_no_matching_ifcs
	Dummy           string          // dummy_app_server: matches, but is not invoked
	Continued       time.Duration   // how long a server may be silent before the session continues without it
	Terminated      time.Duration   // or ends
}

// links finds the place in a chain that an application server returns a request to. They are this node's alone: the
// Route that carries the token holds the node's address.
type links struct {
	mu    sync.Mutex
	known map[string]*link
}

// tokenPrefix marks the user part of the Routes by which requests come back.
const tokenPrefix = "odi_"

// add makes a token for a link. It is valid until ctx, the life of the transaction that invokes the server, ends, and any
// number of times until then: a server may fork.
func (t *links) add(ctx context.Context, l *link) string {
	token := tokenPrefix + rand.Text()[:10]
	t.mu.Lock()
	t.known[token] = l
	t.mu.Unlock()
	context.AfterFunc(ctx, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.known, token)
	})
	return token
}

// find returns the link of a Route's user part; nil when the transaction is over, and for anything else.
func (t *links) find(user string) *link {
	if !strings.HasPrefix(user, tokenPrefix) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known[user]
}

func (t *links) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.known)
}

// metrics of the S-CSCF's application server chains.
type metrics struct {
	servers     *prometheus.CounterVec
	unknownSets prometheus.Counter
	fallbacks   prometheus.Counter
	preloaded   prometheus.Counter
	strangers   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, t *links) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		servers:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_scscf_application_servers_total", Help: "Requests to application servers: invoked, and of these continued or terminated by default handling; bad_uri was not invoked."}, []string{"outcome"}),
		unknownSets: counter("ims_scscf_unknown_shared_ifcs_total", "Shared sets of filter criteria that a profile names and shared_ifcs does not hold."),
		fallbacks:   counter("ims_scscf_fallback_ifcs_total", "Requests that only the fallback criteria selected a server for."),
		preloaded:   counter("ims_scscf_preloaded_routes_total", "Requests that left the S-CSCF by a Route that an application server loaded."),
		strangers:   counter("ims_scscf_unknown_tokens_total", "Requests returned by application servers after their transaction was over; they are served as new ones."),
	}
	reg.MustRegister(m.servers, m.unknownSets, m.fallbacks, m.preloaded, m.strangers,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ims_scscf_chain_tokens", Help: "Places in chains that application servers may return a request to."}, func() float64 { return float64(t.size()) }))
	return m
}
