// Package httpserver is what the roles' public HTTP APIs share on the serving side: listeners with time-outs and limits, the
// answer to /ping, request metrics, a panic that costs one request, and a stop that lets requests finish. It knows no API.
package httpserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/internal/overload"
)

// Config of a Server.
type Config struct {
	Name    string // in metrics: ims_<name>_requests_total
	MaxBody int64  // bytes; larger bodies are cut and the handler's read fails with *http.MaxBytesError. Default 1 MiB
	// MaxActive is how many requests may run at a time; more are answered 503 with Retry-After. Default 256.
	MaxActive int
	// Limiter refuses what is too much, but for /ping; nil: MaxActive alone does. Run runs it.
	Limiter *overload.Limiter
}

// Deps of a Server.
type Deps struct {
	Handler http.Handler
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Server serves one handler on any number of listeners.
type Server struct {
	cfg       Config
	deps      Deps
	active    atomic.Int64
	slots     chan struct{}
	requests  *prometheus.CounterVec
	seconds   prometheus.Histogram
	listeners []net.Listener
	http      *http.Server
}

// New prepares a server. Add listeners with Listen, then Run.
func New(cfg Config, deps Deps) (*Server, error) {
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 1 << 20
	}
	if cfg.MaxActive == 0 {
		cfg.MaxActive = 256
	}
	s := &Server{
		cfg: cfg, deps: deps, slots: make(chan struct{}, cfg.MaxActive),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_" + cfg.Name + "_requests_total", Help: "HTTP requests by method and status.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ims_" + cfg.Name + "_request_duration_seconds", Help: "Time from a request's header to its answer.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10},
		}),
	}
	for _, c := range []prometheus.Collector{s.requests, s.seconds} {
		if err := deps.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics of %s: %w", cfg.Name, err)
		}
	}
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 120 * time.Second,
		IdleTimeout: 120 * time.Second, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(deps.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Listen opens a TCP port; a TLS configuration makes it HTTPS. It returns the address, for ports that the system chose.
func (s *Server) Listen(ctx context.Context, address string, secure *tls.Config) (net.Addr, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("opening HTTP port: %w", err)
	}
	opened := l.Addr()
	if secure != nil {
		own := secure.Clone()
		own.NextProtos = []string{"http/1.1"}
		l = tls.NewListener(l, own)
	}
	s.listeners = append(s.listeners, l)
	return opened, nil
}

// Run serves until the context is over, then cuts what Drain has not seen finished.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, l := range s.listeners {
		group.Go(func() error {
			if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serving HTTP on %s: %w", l.Addr(), err)
			}
			return nil
		})
	}
	if s.cfg.Limiter != nil {
		group.Go(func() error { return s.cfg.Limiter.Run(ctx) })
	}
	group.Go(func() error {
		<-ctx.Done()
		return s.http.Close()
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return nil
}

// Drain closes the listeners and returns when every request is answered or the context is over.
func (s *Server) Drain(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return fmt.Errorf("waiting for %d HTTP requests: %w", s.active.Load(), err)
	}
	return nil
}

// Active tells how many requests are being served.
func (s *Server) Active() int64 { return s.active.Load() }

// ServeHTTP applies limits and metrics around the handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	s.active.Add(1)
	recorder := &recorder{ResponseWriter: w}
	defer func() {
		s.active.Add(-1)
		problem := recover()
		if problem != nil && problem != http.ErrAbortHandler { //nolint:errorlint // a panic value
			s.deps.Log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "problem", problem, "stack", string(debug.Stack()))
			if recorder.status == 0 {
				http.Error(recorder, "internal error", http.StatusInternalServerError)
			}
		}
		s.requests.WithLabelValues(method(r.Method), strconv.Itoa(max(recorder.status, http.StatusOK))).Inc()
		s.seconds.Observe(time.Since(start).Seconds())
		if problem == http.ErrAbortHandler { //nolint:errorlint // a panic value
			panic(problem) //nolint:forbidigo // the handler wants the connection cut, so that a part is not taken for all
		}
	}()
	if r.URL.Path == "/ping" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		_, _ = io.WriteString(recorder, "OK")
		return
	}
	if l := s.cfg.Limiter; l != nil {
		retryAfter, ok := l.Admit(overload.Ordinary)
		if !ok {
			busy(recorder, retryAfter)
			return
		}
		defer func() { l.Done(start, time.Since(start)) }()
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		busy(recorder, time.Second)
		return
	}
	r.Body = http.MaxBytesReader(recorder, r.Body, s.cfg.MaxBody)
	s.deps.Handler.ServeHTTP(recorder, r)
}

// busy refuses a request because there are too many.
func busy(w http.ResponseWriter, retryAfter time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int((retryAfter+time.Second-1)/time.Second)))
	http.Error(w, "too many requests at a time", http.StatusServiceUnavailable)
}

// method bounds the label's values.
func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete:
		return m
	default:
		return "other"
	}
}

// recorder notes the status.
type recorder struct {
	http.ResponseWriter

	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b) //nolint:wrapcheck // a writer
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
