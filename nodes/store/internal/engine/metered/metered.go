// Package metered counts what goes through an engine. It changes nothing else.
package metered

import (
	"context"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// Engine counts the calls of the engine inside it.
type Engine struct {
	engine.Engine

	swaps, refused, reads *prometheus.CounterVec
	wait                  prometheus.Histogram
}

// New wraps e and registers its metrics.
func New(e engine.Engine, reg prometheus.Registerer) *Engine {
	m := &Engine{
		Engine: e,
		swaps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_store_swaps_total", Help: "Commits with a condition, by the table of their first condition.",
		}, []string{"table"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_store_swaps_refused_total", Help: "Commits whose condition did not hold, by table.",
		}, []string{"table"}),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_store_reads_total", Help: "Rows and ranges read, by table.",
		}, []string{"table"}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ims_store_commit_seconds", Help: "Time until a commit was on disk.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
	}
	reg.MustRegister(m.swaps, m.refused, m.reads, m.wait)
	return m
}

// Get counts a read.
func (m *Engine) Get(ctx context.Context, table, key string) (engine.Row, error) {
	m.reads.WithLabelValues(label(table)).Inc()
	return m.Engine.Get(ctx, table, key)
}

// Scan counts a read.
func (m *Engine) Scan(ctx context.Context, table string, r engine.Range, limit int) ([]engine.Row, bool, error) {
	m.reads.WithLabelValues(label(table)).Inc()
	return m.Engine.Scan(ctx, table, r, limit)
}

// Commit counts a swap if one of the writes has a condition.
func (m *Engine) Commit(ctx context.Context, writes ...engine.Write) (uint64, bool, error) {
	started := time.Now()
	version, done, err := m.Engine.Commit(ctx, writes...)
	m.wait.Observe(time.Since(started).Seconds())
	for _, w := range writes {
		if !w.If {
			continue
		}
		m.swaps.WithLabelValues(label(w.Table)).Inc()
		if err == nil && !done {
			m.refused.WithLabelValues(label(w.Table)).Inc()
		}
		break
	}
	return version, done, err
}

// label is the table's name without the mark of the store's own tables.
func label(table string) string { return strings.TrimPrefix(table, "_") }
