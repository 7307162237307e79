package httpserver_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/httpserver"
	"github.com/clearwater-ims/clearwater/nodes/internal/overload"
)

func start(t *testing.T, cfg httpserver.Config, h http.HandlerFunc) (*httpserver.Server, string, *prometheus.Registry, func() error) {
	t.Helper()
	registry := prometheus.NewRegistry()
	cfg.Name = "test"
	s, err := httpserver.New(cfg, httpserver.Deps{Handler: h, Log: slog.New(slog.DiscardHandler), Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	address, err := s.Listen(t.Context(), "127.24.2.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := func() error { cancel(); return <-done }
	t.Cleanup(func() { cancel() })
	return s, "http://" + address.String(), registry, stop
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url) //nolint:gosec,noctx // a test server
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func TestPingPanicAndMetrics(t *testing.T) {
	_, url, registry, stop := start(t, httpserver.Config{}, func(http.ResponseWriter, *http.Request) { panic("boom") })
	if status, body := get(t, url+"/ping"); status != 200 || body != "OK" {
		t.Errorf("ping: %d %q", status, body)
	}
	for range 2 { // the server survives
		if status, _ := get(t, url+"/x"); status != 500 {
			t.Errorf("panic: %d", status)
		}
	}
	want := `# HELP ims_test_requests_total HTTP requests by method and status.
# TYPE ims_test_requests_total counter
ims_test_requests_total{code="200",method="GET"} 1
ims_test_requests_total{code="500",method="GET"} 2
`
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "ims_test_requests_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
}

func TestLimits(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	_, url, _, _ := start(t, httpserver.Config{MaxActive: 1, MaxBody: 10}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			entered <- struct{}{}
			<-release
			return
		}
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		}
	})
	resp, err := http.Post(url, "text/plain", strings.NewReader(strings.Repeat("x", 11))) //nolint:noctx // a test server
	if err != nil || resp.StatusCode != 413 {
		t.Fatalf("large body: %v %v", resp, err)
	}
	_ = resp.Body.Close()
	done := make(chan struct{})
	go func() { defer close(done); get(t, url+"/wait") }()
	<-entered
	if status, _ := get(t, url+"/more"); status != 503 {
		t.Errorf("second request: %d", status)
	}
	if status, _ := get(t, url+"/ping"); status != 200 {
		t.Errorf("ping under load: %d", status)
	}
	close(release)
	<-done
}

func TestDrainLetsRequestsFinish(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s, url, _, stop := start(t, httpserver.Config{}, func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-release })
	answered := make(chan int)
	go func() { status, _ := get(t, url); answered <- status }()
	<-entered
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Drain(short); err == nil || !strings.Contains(err.Error(), "1 HTTP requests") {
		t.Errorf("drain with a request open: %v", err)
	}
	close(release)
	if status := <-answered; status != 200 {
		t.Errorf("answer during drain: %d", status)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestOverload(t *testing.T) {
	limiter := overload.New("test_limit", config.Throttle{TargetLatency: 100000, MaxTokens: 2, InitRate: 0.1}, overload.Deps{})
	_, url, _, stop := start(t, httpserver.Config{Limiter: limiter}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	for range 2 {
		if status, _ := get(t, url+"/x"); status != 204 {
			t.Errorf("with tokens left: %d", status)
		}
	}
	resp, err := http.Get(url + "/x") //nolint:noctx // a test server
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); resp.StatusCode != 503 || err != nil || seconds < 1 || seconds > 45 {
		t.Errorf("without tokens: %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if status, _ := get(t, url+"/ping"); status != 200 {
		t.Errorf("ping without tokens: %d", status)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
