package command_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/operator"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning/provisioningtest"
	"github.com/clearwater-ims/clearwater/nodes/cw/internal/command"
)

// world is a deployment as the tool sees it: name server, a store node's management API with mutual TLS, a provisioning API.
type world struct {
	folder, home string
	ca           *pki.Authority
	port         int
	dns          string
	hs           *provisioningtest.Server
	hsAddress    string

	mu      sync.Mutex
	docs    map[string]management.Document
	changes map[string][]management.Document // the last first
	queue   management.Restarts
	ordered []string // what the restart queue and the recovery were told
	cluster management.Cluster
	authors []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		folder: filepath.Join(t.TempDir(), "operator"), home: t.TempDir(), hs: provisioningtest.New(),
		changes: map[string][]management.Document{},
		docs:    map[string]management.Document{"shared_config": {Type: "shared_config", Revision: 7, Text: "home_domain=example.com\nellis_api_key=key\n"}},
	}
	hs := httptest.NewServer(w.hs)
	t.Cleanup(hs.Close)
	w.hsAddress = strings.TrimPrefix(hs.URL, "http://")
	ca, err := pki.NewDeploymentCA("test")
	if err != nil {
		t.Fatal(err)
	}
	w.ca = ca
	issue := func(name, role string) (chain, key []byte) {
		chain, key, err := ca.Issue(pki.Subject{Name: name, Role: role}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return chain, key
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.CertificatePEM())
	source, err := pki.Static(issue("store-1.site1", "store"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.24.5.10:0", pki.ServerTLS(roots, source, pki.RoleOperator))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: w.management(), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	w.port = listener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // a TCP listener
	chain, key := issue("operator", pki.RoleOperator)
	w.dns = nameServer(t)
	access := operator.Access{Zone: "ims.test", Site: "site1", DNS: []string{w.dns}}
	if err := operator.Write(w.folder, access, ca.CertificatePEM(), chain, key); err != nil {
		t.Fatal(err)
	}
	return w
}

// nameServer knows one store node that lives and one that is down.
func nameServer(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.24.5.53:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Name == "store.site1.ims.test." {
			if q.Question[0].Qtype == dns.TypeA {
				for _, a := range []string{"127.24.5.11", "127.24.5.10"} {
					rr, err := dns.NewRR("store.site1.ims.test. 5 IN A " + a)
					if err == nil {
						m.Answer = append(m.Answer, rr)
					}
				}
			}
		} else {
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return conn.LocalAddr().String()
}

// management keeps documents as a store node does: compare-and-swap, and no home_domain means 422.
func (w *world) management() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/config/{type}", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		doc := w.docs[r.PathValue("type")]
		doc.Type = r.PathValue("type")
		management.WriteJSON(rw, http.StatusOK, doc)
	})
	mux.HandleFunc("PUT /v1/config/{type}", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		var doc management.Document
		if err := management.ReadJSON(rw, r, &doc); err != nil {
			management.Fail(rw, err)
			return
		}
		typ := r.PathValue("type")
		switch {
		case doc.Revision != w.docs[typ].Revision:
			management.Fail(rw, &management.Error{Status: http.StatusConflict, Message: "changed"})
		case typ == "shared_config" && !strings.Contains(doc.Text, "home_domain="):
			management.Fail(rw, &management.Error{Status: http.StatusUnprocessableEntity, Message: "option home_domain is missing"})
		default:
			doc.Revision += 10
			w.docs[typ] = doc
			w.changes[typ] = append([]management.Document{doc}, w.changes[typ]...)
			w.authors = append(w.authors, doc.Author)
			doc.Warnings = []string{"an unknown option"}
			management.WriteJSON(rw, http.StatusOK, doc)
		}
	})
	mux.HandleFunc("GET /v1/config/{type}/history", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		list := []management.Document{}
		for _, d := range w.changes[r.PathValue("type")] {
			d.Text = ""
			list = append(list, d)
		}
		management.WriteJSON(rw, http.StatusOK, list)
	})
	mux.HandleFunc("GET /v1/config/{type}/history/{revision}", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, d := range w.changes[r.PathValue("type")] {
			if strconv.FormatInt(d.Revision, 10) == r.PathValue("revision") {
				management.WriteJSON(rw, http.StatusOK, d)
				return
			}
		}
		management.Fail(rw, &management.Error{Status: http.StatusNotFound, Message: "not kept"})
	})
	mux.HandleFunc("GET /v1/status", func(rw http.ResponseWriter, _ *http.Request) {
		management.WriteJSON(rw, http.StatusOK, management.Status{Name: "store-1.site1"})
	})
	mux.HandleFunc("POST /v1/recover", func(rw http.ResponseWriter, _ *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.cluster.Healthy {
			management.Fail(rw, &management.Error{Status: http.StatusConflict, Message: "etcd has a quorum"})
			return
		}
		w.ordered = append(w.ordered, "recover")
		management.WriteJSON(rw, http.StatusOK, management.RecoverResponse{From: "its disk"})
	})
	mux.HandleFunc("GET /v1/restarts", func(rw http.ResponseWriter, _ *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		management.WriteJSON(rw, http.StatusOK, w.queue)
	})
	mux.HandleFunc("POST /v1/restarts", func(rw http.ResponseWriter, r *http.Request) {
		var req management.RestartsRequest
		if err := management.ReadJSON(rw, r, &req); err != nil {
			management.Fail(rw, err)
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ordered = append(w.ordered, req.Action)
		w.queue.Halted = ""
		management.WriteJSON(rw, http.StatusOK, w.queue)
	})
	mux.HandleFunc("GET /v1/cluster", func(rw http.ResponseWriter, _ *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		management.WriteJSON(rw, http.StatusOK, w.cluster)
	})
	return mux
}

// change is somebody else's edit.
func (w *world) change(typ, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	doc := w.docs[typ]
	doc.Text, doc.Author = text, "somebody"
	doc.Revision++
	w.docs[typ] = doc
}

func (w *world) document(typ string) management.Document {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.docs[typ]
}

// run runs cw on the world and returns exit code, output and errors.
func (w *world) run(t *testing.T, in string, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = command.Run(t.Context(), command.Environment{
		Args: args, In: strings.NewReader(in), Out: &stdout, Err: &stderr, ManagementPort: w.port,
		Getenv: func(name string) string {
			return map[string]string{"HOME": w.home, "USER": "anna", "CW_DEPLOYMENT": w.folder}[name]
		},
	})
	return code, stdout.String(), stderr.String()
}

// must runs cw and wants exit code 0 and a text in the output.
func (w *world) must(t *testing.T, want string, args ...string) string {
	t.Helper()
	code, out, errs := w.run(t, "", args...)
	if code != 0 || !strings.Contains(out, want) {
		t.Fatalf("cw %s: exit code %d, output %q, errors %q; want 0 and %q", strings.Join(args, " "), code, out, errs, want)
	}
	return out
}

// fails runs cw and wants an exit code and a text in the errors.
func (w *world) fails(t *testing.T, wantCode int, want, in string, args ...string) {
	t.Helper()
	code, out, errs := w.run(t, in, args...)
	if code != wantCode || !strings.Contains(errs+out, want) {
		t.Errorf("cw %s: exit code %d, output %q, errors %q; want %d and %q", strings.Join(args, " "), code, out, errs, wantCode, want)
	}
}

func (w *world) copyOf(file string) string {
	return filepath.Join(w.home, "clearwater-config-manager", "anna", file)
}

func (w *world) edit(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(w.copyOf(file), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}
