package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

func authorities(t *testing.T) (deployment, site *Authority, roots *x509.CertPool) {
	t.Helper()
	deployment, err := NewDeploymentCA("lab")
	if err != nil {
		t.Fatal(err)
	}
	if site, err = deployment.NewSiteCA("site1"); err != nil {
		t.Fatal(err)
	}
	if roots, err = Pool(deployment.CertificatePEM()); err != nil {
		t.Fatal(err)
	}
	return deployment, site, roots
}

func source(t *testing.T, a *Authority, s Subject) CertificateSource {
	t.Helper()
	chain, key, err := a.Issue(s, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	src, err := Static(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

// connect runs a handshake and an exchange of one byte each way; with TLS 1.3 only that shows the client a refusal.
func connect(t *testing.T, server, client *tls.Config) (s, c *tls.Conn, serverErr, clientErr error) {
	t.Helper()
	a, b := net.Pipe()
	deadline := time.Now().Add(5 * time.Second)
	_ = a.SetDeadline(deadline)
	_ = b.SetDeadline(deadline)
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	s, c = tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x"))
		} else {
			_ = a.Close()
		}
		done <- err
	}()
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	} else {
		_ = b.Close()
	}
	return s, c, <-done, clientErr
}

func TestPeersOfOneDeploymentTrustEachOther(t *testing.T) {
	_, site, roots := authorities(t)
	edge := source(t, site, Subject{Name: "edge-1.site1", Role: "edge"})
	store := source(t, site, Subject{Name: "store-1.site1", Role: "store", Addresses: []string{"127.0.0.9"}})
	s, c, serverErr, clientErr := connect(t, ServerTLS(roots, store, "edge", "router"), ClientTLS(roots, edge, "store"))
	if serverErr != nil || clientErr != nil {
		t.Fatal(serverErr, clientErr)
	}
	ss, cs := s.ConnectionState(), c.ConnectionState()
	if name, role := Peer(&ss); name != "edge-1.site1" || role != "edge" {
		t.Errorf("the server saw %s %s", name, role)
	}
	if name, role := Peer(&cs); name != "store-1.site1" || role != "store" {
		t.Errorf("the client saw %s %s", name, role)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	deployment, site, roots := authorities(t)
	_, otherSite, _ := authorities(t)
	edge := source(t, site, Subject{Name: "edge-1.site1", Role: "edge"})
	store := source(t, site, Subject{Name: "store-1.site1", Role: "store"})
	stranger := source(t, otherSite, Subject{Name: "edge-1.site1", Role: "edge"})
	operator := source(t, deployment, Subject{Name: "terraform", Role: RoleOperator})
	for name, tc := range map[string]struct {
		server, client *tls.Config
		want           string // "" = no error
	}{
		"operator under the deployment CA": {ServerTLS(roots, store, RoleOperator), ClientTLS(roots, operator, "store"), ""},
		"client of another deployment":     {ServerTLS(roots, store), ClientTLS(roots, stranger), "not of this deployment"},
		"server of another deployment":     {ServerTLS(roots, stranger), ClientTLS(roots, edge), "not of this deployment"},
		"client of the wrong role":         {ServerTLS(roots, store, "router"), ClientTLS(roots, edge), `role "edge", wanted is router`},
		"server of the wrong role":         {ServerTLS(roots, edge), ClientTLS(roots, store, "store", "diameter"), `role "edge", wanted is store or diameter`},
		"no client certificate":            {ServerTLS(roots, store), ClientTLS(roots, nil), "didn't provide a certificate"},
		"no client certificate, open":      {OpenServerTLS(roots, store), ClientTLS(roots, nil, "store"), ""},
		"wrong one at an open server":      {OpenServerTLS(roots, store), ClientTLS(roots, stranger), "not of this deployment"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, serverErr, clientErr := connect(t, tc.server, tc.client)
			both := errors.Join(serverErr, clientErr)
			switch {
			case tc.want == "" && both != nil:
				t.Error(both)
			case tc.want != "" && (both == nil || clientErr == nil || !strings.Contains(both.Error(), tc.want)):
				t.Errorf("got %v, want an error with %q", both, tc.want)
			}
		})
	}
}

func TestExpiredCertificateIsRefused(t *testing.T) {
	_, site, roots := authorities(t)
	chain, key, err := site.Issue(Subject{Name: "edge-1.site1", Role: "edge"}, time.Nanosecond)
	if err != nil {
		t.Fatal(err)
	}
	old, _ := Static(chain, key)
	now := source(t, site, Subject{Name: "store-1.site1", Role: "store"})
	for deadline := time.Now().Add(5 * time.Second); ; { // certificates count whole seconds
		_, _, serverErr, clientErr := connect(t, ServerTLS(roots, now), ClientTLS(roots, old))
		if both := errors.Join(serverErr, clientErr); both != nil && strings.Contains(both.Error(), "expired") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("an expired certificate is accepted")
		}
	}
}

func TestSignTakesNothingFromTheRequest(t *testing.T) {
	_, site, _ := authorities(t)
	csr, keyPEM, err := NewRequest("store-1.site1")
	if err != nil {
		t.Fatal(err)
	}
	want := Subject{Name: "edge-2.site1", Role: "edge", DNSNames: Names(config.Edge, "edge-2.site1", "site1", "example.com"), Addresses: []string{"127.0.0.7"}}
	chain, err := site.Sign(csr, want, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Static(chain, keyPEM); err != nil {
		t.Fatal(err)
	}
	certs, err := ParseCertificates(chain)
	if err != nil || len(certs) != 2 {
		t.Fatalf("%d certificates, %v", len(certs), err)
	}
	if got := SubjectOf(certs[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if life := time.Until(certs[0].NotAfter); life > NodeLifetime || life < NodeLifetime-time.Minute {
		t.Errorf("lifetime %v", life)
	}
	for name, bad := range map[string]struct {
		csr []byte
		s   Subject
	}{
		"no PEM":      {[]byte("x"), want},
		"cut":         {csr[:len(csr)/2], want},
		"no role":     {csr, Subject{Name: "a"}},
		"bad address": {csr, Subject{Name: "a", Role: "b", Addresses: []string{"nowhere"}}},
	} {
		if _, err := site.Sign(bad.csr, bad.s, 0); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestAuthoritySurvivesStorage(t *testing.T) {
	deployment, site, _ := authorities(t)
	keyPEM, err := site.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseAuthority(site.CertificatePEM(), keyPEM)
	if err != nil || !again.Certificate.Equal(site.Certificate) {
		t.Fatalf("got %v", err)
	}
	if _, err := ParseAuthority(deployment.CertificatePEM(), keyPEM); err == nil {
		t.Error("a key of another authority was accepted")
	}
	below, err := site.NewSiteCA("below") // the path length forbids it, so nobody accepts what it signs
	if err != nil {
		t.Fatal(err)
	}
	roots, _ := Pool(deployment.CertificatePEM())
	src := source(t, below, Subject{Name: "x", Role: "edge"})
	_, _, serverErr, clientErr := connect(t, ServerTLS(roots, src), ClientTLS(roots, src))
	if errors.Join(serverErr, clientErr) == nil {
		t.Error("a site CA could make further authorities")
	}
}

func TestProofIsBoundToTokenSideAndConnection(t *testing.T) {
	_, site, roots := authorities(t)
	src := source(t, site, Subject{Name: "x", Role: "store"})
	s, c, _, _ := connect(t, ServerTLS(roots, src), ClientTLS(roots, src))
	_, other, _, _ := connect(t, ServerTLS(roots, src), ClientTLS(roots, src))
	server, client, elsewhere := s.ConnectionState(), c.ConnectionState(), other.ConnectionState()
	proof, err := Prove(&client, "token", SideProvider)
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckProof(&server, "token", SideProvider, proof); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"token":      CheckProof(&server, "other", SideProvider, proof),
		"side":       CheckProof(&server, "token", SideNode, proof),
		"connection": CheckProof(&elsewhere, "token", SideProvider, proof),
		"nothing":    CheckProof(&server, "token", SideProvider, ""),
	} {
		if !errors.Is(err, ErrProof) {
			t.Errorf("%s: got %v, want ErrProof", name, err)
		}
	}
	if _, err := Prove(&client, "", SideNode); err == nil {
		t.Error("an empty token was proved")
	}
}

func TestNames(t *testing.T) {
	got := Names(config.Edge, "edge-1.west", "west", "example.com")
	if want := []string{"edge-1.west.example.com", "example.com", "west.example.com"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Names(config.Router, "router-1.west", "west", "example.com"); !slices.Contains(got, "scscf.router.west.example.com") {
		t.Errorf("got %v", got)
	}
}
