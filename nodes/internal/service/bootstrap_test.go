package service

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/identity"
)

// unjoinedStore serves the management API of a store node that has only its token, and returns its address.
func unjoinedStore(t *testing.T, ca *pki.Authority, token string, hook BootstrapFunc) string {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	l, dir := newTestLive(t)
	id, err := identity.Open(identity.Config{Name: "store-1.site1", Role: config.Store, Site: "site1", Zone: "example.com",
		Addresses: []string{"127.0.0.1"}, Directory: filepath.Join(dir, "pki"), Roots: ca.CertificatePEM(), Token: token}, identity.Deps{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{Log: log, Identity: id, Management: http.NewServeMux(), live: l, ready: &readiness{}, drains: newDrains(log)}
	newBoot(config.Store, nil, WithBootstrap(hook)).registerManagement(n)
	conf, err := id.OpenServer()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.21.7.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newHTTPServer(guard(n.Management), log)
	go func() { _ = server.Serve(tls.NewListener(ln, conf)) }()
	t.Cleanup(func() { _ = server.Close() })
	return ln.Addr().String()
}

func TestBootstrap(t *testing.T) {
	ca, err := pki.NewDeploymentCA("lab")
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ca.NewSiteCA("site1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := authority.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	req := management.BootstrapRequest{SiteCA: string(authority.CertificatePEM()), SiteCAKey: string(key), SharedConfig: map[string]string{"home_domain": "example.com"}}
	calls := 0
	address := unjoinedStore(t, ca, "secret", func(_ context.Context, got management.BootstrapRequest, id *identity.Identity) (string, error) {
		if calls++; calls == 1 {
			return "", errors.New("the disk is full")
		}
		site, err := pki.ParseAuthority([]byte(got.SiteCA), []byte(got.SiteCAKey))
		if err != nil || got.SharedConfig["home_domain"] != "example.com" {
			return "", errors.New("not what was sent")
		}
		return "c1", id.SignWith(site)
	})
	ctx := t.Context()
	if _, err := management.Bootstrap(ctx, address, "guess", req); !errors.Is(err, pki.ErrProof) {
		t.Errorf("a node that does not know our token: %v", err)
	}
	roots, _ := pki.Pool(ca.CertificatePEM())
	if _, err := management.NewClient(address, pki.ClientTLS(roots, nil)).Status(ctx); err == nil {
		t.Error("an unjoined node passed for one of the deployment")
	}
	if calls != 0 {
		t.Error("the hook ran without a proof")
	}
	if _, err := management.Bootstrap(ctx, address, "secret", req); management.StatusOf(err) != http.StatusInternalServerError {
		t.Errorf("when the hook fails: %v", err)
	}
	id, err := management.Bootstrap(ctx, address, "secret", req)
	if err != nil || id != "c1" {
		t.Fatalf("got %q, %v", id, err)
	}
	if _, err := management.Bootstrap(ctx, address, "secret", req); management.StatusOf(err) != http.StatusConflict {
		t.Errorf("a second cluster: %v", err)
	}
	chain, operatorKey, err := ca.Issue(pki.Subject{Name: "terraform", Role: pki.RoleOperator}, 0)
	if err != nil {
		t.Fatal(err)
	}
	own, _ := pki.Static(chain, operatorKey)
	if status, err := management.NewClient(address, pki.ClientTLS(roots, own, "store")).Status(ctx); err != nil || status.Name != "store-1.site1" {
		t.Errorf("after joining: %+v, %v", status, err)
	}
}

func TestBootstrapWithoutTokenIsRefused(t *testing.T) {
	ca, err := pki.NewDeploymentCA("lab")
	if err != nil {
		t.Fatal(err)
	}
	address := unjoinedStore(t, ca, "", mustNotRun)
	if _, err := management.Bootstrap(t.Context(), address, "secret", management.BootstrapRequest{}); management.StatusOf(err) != http.StatusConflict {
		t.Errorf("got %v", err)
	}
}

func mustNotRun(context.Context, management.BootstrapRequest, *identity.Identity) (string, error) {
	return "", errors.New("not to be called")
}
