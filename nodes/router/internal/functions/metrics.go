package functions

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// observer counts what passes each function.
type observer struct {
	requests *prometheus.CounterVec
	finals   *prometheus.CounterVec
}

func newObserver(reg prometheus.Registerer, held func() int64) *observer {
	o := &observer{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_proxy_requests_total", Help: "Requests by function and method; local ones came from another function of the node."}, []string{"function", "method", "local"}),
		finals:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "ims_proxy_final_responses_total", Help: "Final responses by function, method and class."}, []string{"function", "method", "class"}),
	}
	reg.MustRegister(o.requests, o.finals, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
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
