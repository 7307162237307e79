package turn

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests       *prometheus.CounterVec
	dropped        *prometheus.CounterVec
	sent, received prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Server) *metrics {
	relayed := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ims_turn_relayed_bytes_total", Help: "Media that was relayed, by direction: to the peer, from it.",
	}, []string{"direction"})
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_turn_requests_total", Help: "Requests with credentials, and connections, by outcome: admitted, unauthorized, limited, unavailable.",
		}, []string{"outcome"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_turn_dropped_packets_total", Help: "Media that was not relayed, by cause: peer, bandwidth.",
		}, []string{"cause"}),
		sent: relayed.WithLabelValues("to_peer"), received: relayed.WithLabelValues("from_peer"),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.dropped, relayed, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ims_turn_allocations", Help: "Relays that exist.",
		}, func() float64 { return float64(s.Allocations()) }))
	}
	return m
}

// logs is slog as pion wants it. What clients do wrong is for debugging only.
type logs struct{ log *slog.Logger }

// NewLogger implements logging.LoggerFactory.
func (l logs) NewLogger(scope string) logging.LeveledLogger { return scoped{l.log.With("part", scope)} }

type scoped struct{ log *slog.Logger }

func (s scoped) say(format string, args ...any) {
	if s.log.Enabled(context.Background(), slog.LevelDebug) {
		s.log.Debug(fmt.Sprintf(format, args...))
	}
}

func (s scoped) Trace(string)                      {}
func (s scoped) Tracef(string, ...any)             {}
func (s scoped) Debug(msg string)                  { s.say("%s", msg) }
func (s scoped) Debugf(format string, args ...any) { s.say(format, args...) }
func (s scoped) Info(msg string)                   { s.say("%s", msg) }
func (s scoped) Infof(format string, args ...any)  { s.say(format, args...) }
func (s scoped) Warn(msg string)                   { s.say("%s", msg) }
func (s scoped) Warnf(format string, args ...any)  { s.say(format, args...) }
func (s scoped) Error(msg string)                  { s.say("%s", msg) }
func (s scoped) Errorf(format string, args ...any) { s.say(format, args...) }
