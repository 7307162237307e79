// Package servicetest is what a node needs around it when a test runs it as a process of its own: a deployment's
// certificates, a name server, and the management API of a store node that signs whoever has the token.
package servicetest

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// Site is a running surrounding.
type Site struct {
	CA        *pki.Authority // of the deployment
	Authority *pki.Authority // of the site
	DNS       string         // address of the name server
	Zone      string
	Token     string // that nodes join with
	IP        string // of the store node
}

// NewSite starts a site whose name server and store node are on ip, a loopback address that no other test uses.
func NewSite(t testing.TB, ip string) *Site {
	t.Helper()
	ca, err := pki.NewDeploymentCA("lab")
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.NewSiteCA("site1")
	if err != nil {
		t.Fatal(err)
	}
	s := &Site{CA: ca, Authority: authority, Zone: "example.com", Token: "join-secret", IP: ip}
	s.names(t)
	s.management(t)
	return s
}

// names serves store.site1.<zone>.
func (s *Site) names(t testing.TB) {
	t.Helper()
	packets, err := net.ListenPacket("udp", s.IP+":0")
	if err != nil {
		t.Fatal(err)
	}
	s.DNS = packets.LocalAddr().String()
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(r)
		if q := r.Question[0]; q.Name == "store.site1."+s.Zone+"." && q.Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.ParseIP(s.IP)})
		}
		_ = w.WriteMsg(m) // the caller asks again
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
}

// management signs certificates.
func (s *Site) management(t testing.TB) {
	t.Helper()
	roots, err := pki.Pool(s.CA.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", s.IP, config.ManagementPort(config.Store)))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/join", func(w http.ResponseWriter, r *http.Request) {
		var req management.JoinRequest
		if err := management.ReadJSON(w, r, &req); err != nil || req.Token != s.Token {
			management.Fail(w, &management.Error{Status: http.StatusForbidden, Message: "no such token"})
			return
		}
		role := req.Name[:len(req.Name)-len("-1.site1")]
		chain, err := s.Authority.Sign([]byte(req.CSR), pki.Subject{Name: req.Name, Role: role}, 0)
		if err != nil {
			management.Fail(w, err)
			return
		}
		management.WriteJSON(w, http.StatusOK, management.JoinResponse{Certificate: string(chain)})
	})
	server := &http.Server{Handler: mux, TLSConfig: pki.OpenServerTLS(roots, s.Source(t, "store-1.site1", "store")),
		ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)}
	go func() { _ = server.ServeTLS(ln, "", "") }()
	t.Cleanup(func() { _ = server.Close() })
}

// Source returns a certificate of the site.
func (s *Site) Source(t testing.TB, name, role string) pki.CertificateSource {
	t.Helper()
	chain, key, err := s.Authority.Issue(pki.Subject{Name: name, Role: role}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	own, err := pki.Static(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return own
}

// Client steers the node of a role at ip as a caller of the role as (pki.RoleOperator for the provider).
func (s *Site) Client(t testing.TB, role config.Role, ip, as string) *management.Client {
	t.Helper()
	roots, err := pki.Pool(s.CA.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	return management.NewClient(fmt.Sprintf("%s:%d", ip, config.ManagementPort(role)), pki.ClientTLS(roots, s.Source(t, "caller", as), string(role)))
}

// Folder writes a configuration folder for node 1 of a role at ip; an empty shared means that none is cached.
func (s *Site) Folder(t testing.TB, role config.Role, ip, shared string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		config.LocalFile: fmt.Sprintf("local_ip=%s\npublic_ip=%s\npublic_hostname=%s-1.site1.%s\nnode_role=%s\ndeployment_id=d1\ndns_zone=%s\nsignaling_dns_server=%s\njoin_token=%s\n",
			ip, ip, role, s.Zone, role, s.Zone, s.DNS, s.Token),
		"ca.pem": string(s.CA.CertificatePEM()),
	}
	if shared != "" {
		files[config.SharedFile] = shared
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
