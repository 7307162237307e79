package functions

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/network"
)

var _ proxy.CallObserver = (*observer)(nil)

// observer counts what passes each function.
type observer struct {
	requests *prometheus.CounterVec
	finals   *prometheus.CounterVec
	forked   prometheus.Counter
	canceled *prometheus.CounterVec
}

func newObserver(reg prometheus.Registerer, held func() int64) *observer {
	o := &observer{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_proxy_requests_total", Help: "Requests by function and method; local ones came from another function of the node."}, []string{"function", "method", "local"}),
		finals:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_proxy_final_responses_total", Help: "Final responses by function, method and class."}, []string{"function", "method", "class"}),
		forked:   prometheus.NewCounter(prometheus.CounterOpts{Name: "ims_scscf_forked_invites_total", Help: "INVITEs sent to further contacts of called users, the first of each call not counted."}),
		canceled: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_scscf_cancelled_total", Help: "INVITEs that the caller cancelled, before or after a provisional response other than 100; the originating and the terminating half of a call count each."}, []string{"when"}),
	}
	for _, when := range []string{before1xx, after1xx} {
		o.canceled.WithLabelValues(when)
	}
	reg.MustRegister(o.requests, o.finals, o.forked, o.canceled, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ims_proxy_transactions", Help: "Transactions without a final response, server and client.",
	}, func() float64 { return float64(held()) }))
	return o
}

// known keeps the label set small whatever methods strangers send.
func known(method string) string {
	switch method {
	case "INVITE", "ACK", "BYE", "REGISTER", "OPTIONS", "SUBSCRIBE", "NOTIFY", "MESSAGE", "PRACK", "UPDATE", "INFO", "REFER", "PUBLISH":
		return method
	}
	return "other"
}

// Request implements proxy.Observer.
func (o *observer) Request(function, method string, local bool) {
	o.requests.WithLabelValues(function, known(method), strconv.FormatBool(local)).Inc()
}

// Final implements proxy.Observer.
func (o *observer) Final(function, method string, status int) {
	o.finals.WithLabelValues(function, known(method), strconv.Itoa(status/100)+"xx").Inc()
}

const (
	before1xx = "before_1xx"
	after1xx  = "after_1xx"
)

// Forked implements proxy.CallObserver.
func (o *observer) Forked(function, method string, extra int) {
	if function == string(network.SCSCF) && method == sip.INVITE {
		o.forked.Add(float64(extra))
	}
}

// Cancelled implements proxy.CallObserver.
func (o *observer) Cancelled(function string, afterProvisional bool) {
	if function != string(network.SCSCF) {
		return
	}
	when := before1xx
	if afterProvisional {
		when = after1xx
	}
	o.canceled.WithLabelValues(when).Inc()
}
