package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
)

// TestLife boots a store, bootstraps it, uses it, kills it and finds everything again.
func TestLife(t *testing.T) {
	l := newLab(t, "127.20.1.1")
	l.start()
	id := l.bootstrap(shared("127.20.1.1:9888"))
	l.ready()
	status, err := l.management().Status(t.Context())
	l.must(err)
	if status.ClusterID != id || status.State != "ready" || status.Name != "store-1.site1" {
		t.Errorf("status %+v", status)
	}
	rows, registered := records.NewClient(l.call()), registrations.NewClient(l.call())
	version, swapped, err := rows.Swap(t.Context(), "documents", "k", 0, []byte("v"))
	if err != nil || !swapped {
		t.Fatal(swapped, err)
	}
	before := l.metric(`ims_store_swaps_total{table="registrations"}`)
	apply(t, registered, "sip:alice@example.com", time.Hour)
	if got := l.metric(`ims_store_swaps_total{table="registrations"}`) - before; got != 1 {
		t.Errorf("a registration cost %v swaps, want 1", got)
	}
	doc, err := l.management().Config(t.Context(), "shared_config")
	l.must(err)

	l.kill()
	l.start()
	l.ready()
	rows, registered = records.NewClient(l.call()), registrations.NewClient(l.call()) // the old ones find the store in their own time
	got, err := rows.Get(t.Context(), "documents", "k")
	if err != nil || got[0].GetVersion() != version || string(got[0].GetValue()) != "v" {
		t.Errorf("row after a kill: %v, %v", got, err)
	}
	rec, err := registered.Get(t.Context(), "sip:alice@example.com")
	if err != nil || len(rec.GetBindings()) != 1 {
		t.Errorf("registration after a kill: %v, %v", rec, err)
	}
	again, err := l.management().Config(t.Context(), "shared_config")
	if err != nil || again.Text != doc.Text || again.Revision != doc.Revision {
		t.Errorf("configuration after a kill: %v, %v; was %v", again, err, doc)
	}
	if status, err = l.management().Status(t.Context()); err != nil || status.ClusterID != id {
		t.Errorf("cluster after a kill: %v, %v; was %s", status, err, id)
	}
	l.stop()
	for _, port := range []int{4000, 2380, 7253, 11311} {
		if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(t.Context(), "tcp", fmt.Sprintf("127.20.1.1:%d", port)); err == nil {
			_ = conn.Close()
			t.Errorf("port %d is still open after the store has stopped", port)
		}
	}
}

func apply(t *testing.T, c *registrations.Client, aor string, life time.Duration) {
	t.Helper()
	resp, err := c.Apply(t.Context(), &registrations.ApplyRequest{Aor: aor, Impi: "i", Bindings: []*registrations.Binding{
		{Id: "b", Uri: "sip:x@127.0.0.1", Impi: "i", ExpiresAt: time.Now().Add(life).UnixMilli()},
	}})
	if err != nil || resp.GetOutcome() != registrations.OutcomeDone {
		t.Fatalf("Apply: %v, %v", resp, err)
	}
}

// TestLapseReachesRouter lets a registration lapse and expects the router to be told until it has worked it off.
func TestLapseReachesRouter(t *testing.T) {
	l := newLab(t, "127.20.1.2")
	told := make(chan string, 10)
	router, err := net.Listen("tcp", "127.20.1.2:9888")
	l.must(err)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /timers", func(_ http.ResponseWriter, r *http.Request) {
		body := make([]byte, 200)
		n, _ := r.Body.Read(body)
		told <- string(body[:n])
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(router) }()
	t.Cleanup(func() { _ = server.Close() })

	l.start()
	l.bootstrap(shared("127.20.1.2:9888"))
	l.ready()
	registered := registrations.NewClient(l.call())
	apply(t, registered, "sip:bob@example.com", time.Second)
	for range 2 { // told again as long as nothing is done about it
		select {
		case body := <-told:
			if body != `{"aor_id":"sip:bob@example.com"}` {
				t.Errorf("the router was told %s", body)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the router was not told")
		}
	}
	resp, err := registered.Apply(t.Context(), &registrations.ApplyRequest{Aor: "sip:bob@example.com"})
	if err != nil || len(resp.GetLapsed()) != 1 || len(resp.GetRecord().GetOwed()) != 1 {
		t.Fatalf("working it off: %v, %v", resp, err)
	}
	l.must(registered.Settle(t.Context(), "sip:bob@example.com", resp.GetRecord().GetOwed()[0].GetId()))
}

// TestOccupiedPort expects a clear message and an end, not a store that serves half.
func TestOccupiedPort(t *testing.T) {
	l := newLab(t, "127.20.1.3")
	ln, err := net.Listen("tcp", "127.20.1.3:7253")
	l.must(err)
	defer func() { _ = ln.Close() }()
	l.start()
	address := "127.20.1.3:9440"
	l.eventually(10*time.Second, func() error {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, _ = management.Bootstrap(ctx, address, token, l.bootstrapRequest(shared("r:9888"))) // cut off by the end of the process
	}()
	select {
	case err := <-l.ended:
		l.process = nil
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("the store ended with %v, want status 1", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the store goes on without its timer port")
	}
	text, err := os.ReadFile(l.log.Name())
	if err != nil || !strings.Contains(string(text), "127.20.1.3:7253") || !strings.Contains(string(text), "address already in use") {
		t.Errorf("the log does not name the port: %s, %v", text, err)
	}
}

// BenchmarkRegistration applies registrations over the wire with mutual TLS, and reports the store's CPU time for one.
func BenchmarkRegistration(b *testing.B) {
	l := newLab(b, "127.20.1.9")
	l.start()
	l.bootstrap(shared("127.20.1.9:9888"))
	l.ready()
	c := registrations.NewClient(l.call())
	var n atomic.Int64
	before := l.metric("process_cpu_seconds_total")
	b.ResetTimer()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		aor := fmt.Sprint("sip:user", n.Add(1), "@example.com")
		for pb.Next() {
			_, err := c.Apply(b.Context(), &registrations.ApplyRequest{Aor: aor, Impi: "i", Associated: []string{aor, "tel:+15550100"}, Bindings: []*registrations.Binding{
				{Id: "<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>:1", Uri: "sip:x@127.0.0.1", Impi: "i", ExpiresAt: time.Now().Add(time.Hour).UnixMilli()},
			}})
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric((l.metric("process_cpu_seconds_total")-before)/float64(b.N)*1e6, "store-cpu-us/op")
}
