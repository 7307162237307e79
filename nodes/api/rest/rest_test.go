package rest_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/clearwater-ims/clearwater/nodes/api/rest"
)

// nameServer serves A records on 127.24.1.53 and returns its address.
func nameServer(t *testing.T, records ...string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.24.1.53:0")
	if err != nil {
		t.Fatal(err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		for _, text := range records {
			rr, err := dns.NewRR(text)
			if err != nil {
				continue
			}
			if rr.Header().Name == q.Question[0].Name && rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if len(m.Answer) == 0 {
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})
	server := &dns.Server{PacketConn: conn, Handler: handler}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return conn.LocalAddr().String()
}

func TestDialsThroughDeploymentDNS(t *testing.T) {
	listener, err := net.Listen("tcp", "127.24.1.10:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Host)) })}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	// 127.24.1.11 has no listener: every connection must end at the node that lives.
	dnsAddress := nameServer(t, "hs.cw.test. 5 IN A 127.24.1.10", "hs.cw.test. 5 IN A 127.24.1.11")
	for range 8 {
		c := rest.New("http://hs.cw.test:"+port, rest.NewHTTPClient(rest.Options{DNS: []string{dnsAddress}}))
		answer, err := c.Do(t.Context(), rest.Request{Method: http.MethodGet, Path: "/"})
		if err != nil {
			t.Fatal(err)
		}
		if string(answer.Body) != "hs.cw.test:"+port {
			t.Fatalf("host was %q", answer.Body)
		}
	}
	_, err = rest.New("http://nobody.cw.test:"+port, rest.NewHTTPClient(rest.Options{DNS: []string{dnsAddress}})).
		Do(t.Context(), rest.Request{Method: http.MethodGet, Path: "/"})
	if !rest.IsUnreachable(err) || !strings.Contains(err.Error(), "nobody.cw.test") {
		t.Errorf("unknown name: %v", err)
	}
}

func TestErrorsCarryStatusAndReason(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/json":
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"error":true,"status":409,"message":"Conflict","reason":"taken"}`))
		case "/huge":
			_, _ = w.Write(make([]byte, rest.MaxAnswer+1))
		case "/moved":
			http.Redirect(w, r, "/json", http.StatusSeeOther)
		default:
			http.Error(w, "broken", http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	c := rest.New(server.URL, nil)
	for path, want := range map[string]struct {
		status int
		reason string
	}{"/json": {409, "taken"}, "/": {500, "broken"}, "/moved": {303, "See Other"}} {
		_, err := c.Do(t.Context(), rest.Request{Method: http.MethodGet, Path: path})
		var e *rest.Error
		if !errors.As(err, &e) || e.Status != want.status || !strings.Contains(e.Reason, want.reason) {
			t.Errorf("%s: %v, want %d %s", path, err, want.status, want.reason)
		}
	}
	if _, err := c.Do(t.Context(), rest.Request{Method: http.MethodGet, Path: "/huge"}); err == nil {
		t.Error("an endless answer was read")
	}
}

// A server that dies in the middle of a request costs a second attempt, and a POST fails: it may have been done.
func TestBrokenConnections(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1)%2 == 1 {
			panic(http.ErrAbortHandler)
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	}))
	defer server.Close()
	c := rest.New(server.URL, nil)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		calls.Store(0)
		answer, err := c.Do(t.Context(), rest.Request{Method: method, Path: "/", Body: []byte("x")})
		if err != nil || string(answer.Body) != "x" || calls.Load() != 2 {
			t.Errorf("%s: %v after %d calls", method, err, calls.Load())
		}
	}
	calls.Store(0)
	if _, err := c.Do(t.Context(), rest.Request{Method: http.MethodPost, Path: "/"}); err == nil || calls.Load() != 1 {
		t.Errorf("POST: %v after %d calls", err, calls.Load())
	}
}

func TestEscape(t *testing.T) {
	for _, s := range []string{"sip:6505550000@example.com", "tel:+1650", "a/b?c#d e%f"} {
		escaped := rest.Escape(s)
		if strings.ContainsAny(escaped, ":@/?# +") {
			t.Errorf("%q escapes to %q", s, escaped)
		}
		if back, err := url.PathUnescape(escaped); err != nil || back != s {
			t.Errorf("%q comes back as %q, %v", escaped, back, err)
		}
	}
}

// A server that has too much to do is asked again; one that is down for good is not waited for.
func TestRefusedIsRepeated(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n := asked.Add(1); {
		case r.URL.Path == "/down":
			w.WriteHeader(http.StatusServiceUnavailable)
		case n < 3:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			_, _ = io.WriteString(w, "done")
		}
	}))
	defer server.Close()
	answer, err := rest.New(server.URL, nil).Do(t.Context(), rest.Request{Method: http.MethodPost, Path: "/busy"})
	if err != nil || string(answer.Body) != "done" || asked.Load() != 3 {
		t.Errorf("%+v, %v after %d times", answer, err, asked.Load())
	}
	asked.Store(0)
	if _, err := rest.New(server.URL, nil).Do(t.Context(), rest.Request{Method: http.MethodGet, Path: "/down"}); rest.Status(err) != http.StatusServiceUnavailable || asked.Load() != 1 {
		t.Errorf("%v after %d times", err, asked.Load())
	}
}
