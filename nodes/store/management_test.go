package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

func TestBootstrapIsRefused(t *testing.T) {
	l := newLab(t, "127.20.4.1")
	l.start()
	address := fmt.Sprintf("%s:%d", l.address, config.ManagementPort(config.Store))
	l.eventually(10*time.Second, func() error {
		_, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", address) //nolint:gosec // only to see that it listens
		return err
	})
	stranger, err := pki.NewDeploymentCA("other")
	l.must(err)
	strange, err := stranger.NewSiteCA("site1")
	l.must(err)
	strangeKey, err := strange.KeyPEM()
	l.must(err)
	good := l.bootstrapRequest(shared("router.lab:9888"))
	for name, c := range map[string]struct {
		token  string
		change func(*management.BootstrapRequest)
		says   string
	}{
		"wrong token": {"guess", func(*management.BootstrapRequest) {}, "prove the join token"},
		"CA of others": {token, func(r *management.BootstrapRequest) {
			r.SiteCA, r.SiteCAKey = string(strange.CertificatePEM()), string(strangeKey)
		}, "not signed by the deployment CA"},
		"another key": {token, func(r *management.BootstrapRequest) { r.SiteCAKey = string(strangeKey) }, "do not belong together"},
		"no CA":       {token, func(r *management.BootstrapRequest) { r.SiteCA = "" }, "certificate"},
		"bad option": {token, func(r *management.BootstrapRequest) {
			r.SharedConfig = map[string]string{"home_domain": "example.com", "reg_max_expires": "x"}
		}, "reg_max_expires"},
		"no home domain": {token, func(r *management.BootstrapRequest) { r.SharedConfig = map[string]string{"reg_max_expires": "60"} }, "home_domain"},
		"line in a value": {token, func(r *management.BootstrapRequest) {
			r.SharedConfig = map[string]string{"home_domain": "example.com\n!"}
		}, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			req := good
			c.change(&req)
			_, err := management.Bootstrap(t.Context(), address, c.token, req)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one with %q", err, c.says)
			}
		})
	}
	if _, err := management.Bootstrap(t.Context(), address, token, good); err != nil {
		t.Fatalf("after refusals: %v", err)
	}
	l.ready()
	if _, err := management.Bootstrap(t.Context(), address, token, good); management.StatusOf(err) != http.StatusConflict {
		t.Errorf("a second bootstrap: %v", err)
	}
	info, err := os.Stat(filepath.Join(l.dir, "data", "pki", "site-ca.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the site CA's key: %v, %v", info, err)
	}
}

// TestBootstrapIsFinishedAfterKill kills the node right after the order was taken: the next process founds the cluster.
func TestBootstrapIsFinishedAfterKill(t *testing.T) {
	l := newLab(t, "127.20.4.2")
	l.start()
	order := filepath.Join(l.dir, "data", "etcd", "bootstrap.json")
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for ctx.Err() == nil { // refused until the node listens; cut off when it is killed
			_, _ = management.Bootstrap(ctx, fmt.Sprintf("%s:%d", l.address, config.ManagementPort(config.Store)), token, l.bootstrapRequest(shared("r:9888")))
			if _, err := os.Stat(order); err == nil {
				return
			}
		}
	}()
	l.eventually(10*time.Second, func() error {
		_, err := os.Stat(filepath.Join(l.dir, "data", "pki", "node.key"))
		return err
	})
	l.kill()
	l.start()
	l.ready()
	status, err := l.management().Status(t.Context())
	l.must(err)
	doc, err := l.management().Config(t.Context(), config.SharedFile)
	l.must(err)
	if status.ClusterID == "" || !strings.Contains(doc.Text, "home_domain=example.com") {
		t.Errorf("cluster %q, configuration %q", status.ClusterID, doc.Text)
	}
}

// TestNoClusterByItself gives a node a certificate but no order: it must not found a cluster, not even when its data is
// gone after it had one.
func TestNoClusterByItself(t *testing.T) {
	l := newLab(t, "127.20.4.3")
	l.start()
	l.bootstrap(shared("r:9888"))
	l.ready()
	l.kill()
	l.must(os.RemoveAll(filepath.Join(l.dir, "data", "etcd", "data")))
	l.start()
	l.eventually(10*time.Second, func() error {
		code, body, err := l.get(fmt.Sprintf("http://%s:%d/readyz", l.address, config.HealthPort(config.Store)))
		if err == nil && (code == http.StatusOK || !strings.Contains(body, "data is gone")) {
			err = fmt.Errorf("readiness says %d %s", code, body)
		}
		return err
	})
	l.kill()
	l.must(os.RemoveAll(filepath.Join(l.dir, "data", "etcd")))
	l.start()
	l.eventually(10*time.Second, func() error {
		_, body, err := l.get(fmt.Sprintf("http://%s:%d/readyz", l.address, config.HealthPort(config.Store)))
		if err == nil && !strings.Contains(body, "belongs to no etcd cluster") {
			err = fmt.Errorf("readiness says %s", body)
		}
		return err
	})
}

func (l *lab) join(name, secret string) (*management.JoinResponse, []byte, error) {
	l.t.Helper()
	csr, key, err := pki.NewRequest(name)
	l.must(err)
	c := management.NewClient(fmt.Sprintf("%s:%d", l.address, config.ManagementPort(config.Store)), pki.ClientTLS(l.roots, nil, "store"))
	defer c.Close()
	resp, err := c.Join(l.t.Context(), management.JoinRequest{Name: name, Token: secret, CSR: string(csr)})
	return resp, key, err
}

func tokenFor(secret, role string, addresses ...string) management.Token {
	sum := sha256.Sum256([]byte(secret))
	return management.Token{SHA256: hex.EncodeToString(sum[:]), Role: role, Addresses: addresses, ExpiresAt: time.Now().Add(time.Hour)}
}

func TestJoin(t *testing.T) {
	l := newLab(t, "127.20.4.4")
	l.start()
	l.bootstrap(shared("r:9888"))
	l.ready()
	m := l.management()
	for name, c := range map[string]struct {
		node   string
		change func(*management.Token)
	}{
		"name":       {"Edge 1", func(*management.Token) {}},
		"other site": {"edge-1.site9", func(*management.Token) {}},
		"role":       {"edge-1.site1", func(t *management.Token) { t.Role = "router" }},
		"operator":   {"operator-1.site1", func(t *management.Token) { t.Role = pki.RoleOperator }},
		"address":    {"edge-1.site1", func(t *management.Token) { t.Addresses = []string{"edge"} }},
		"no address": {"edge-1.site1", func(t *management.Token) { t.Addresses = nil }},
		"digest":     {"edge-1.site1", func(t *management.Token) { t.SHA256 = "x" }},
		"expired":    {"edge-1.site1", func(t *management.Token) { t.ExpiresAt = time.Now() }},
	} {
		bad := tokenFor("s", "edge", "127.20.4.9")
		c.change(&bad)
		if err := m.PutToken(t.Context(), c.node, bad); management.StatusOf(err) != http.StatusUnprocessableEntity {
			t.Errorf("token with wrong %s: %v", name, err)
		}
	}
	l.must(m.PutToken(t.Context(), "edge-1.site1", tokenFor("secret", "edge", "127.20.4.9")))
	for name, secret := range map[string]string{"edge-1.site1": "guess", "edge-2.site1": "secret"} {
		if _, _, err := l.join(name, secret); management.StatusOf(err) != http.StatusForbidden {
			t.Errorf("joining as %s with %q: %v", name, secret, err)
		}
	}
	resp, key, err := l.join("edge-1.site1", "secret")
	l.must(err)
	certs, err := pki.ParseCertificates([]byte(resp.Certificate))
	l.must(err)
	subject := pki.SubjectOf(certs[0])
	if subject.Name != "edge-1.site1" || subject.Role != "edge" || !slices.Contains(subject.Addresses, "127.20.4.9") || !slices.Contains(subject.DNSNames, "edge-1.site1."+zone) {
		t.Errorf("certificate of %+v", subject)
	}
	if _, _, err := l.join("edge-1.site1", "secret"); management.StatusOf(err) != http.StatusForbidden {
		t.Errorf("the token worked twice: %v", err)
	}

	l.must(m.PutToken(t.Context(), "edge-4.site1", tokenFor("fourth", "edge", "127.20.4.9")))
	request, _, err := pki.NewRequest("edge-4.site1")
	l.must(err)
	open := management.NewClient(fmt.Sprintf("%s:%d", l.address, config.ManagementPort(config.Store)), pki.ClientTLS(l.roots, nil, "store"))
	defer open.Close()
	for range 2 { // the second time because the first answer was lost
		if _, err := open.Join(t.Context(), management.JoinRequest{Name: "edge-4.site1", Token: "fourth", CSR: string(request)}); err != nil {
			t.Errorf("joining with one key: %v", err)
		}
	}

	own, err := pki.Static([]byte(resp.Certificate), key)
	l.must(err)
	edge := management.NewClient(fmt.Sprintf("%s:%d", l.address, config.ManagementPort(config.Store)), pki.ClientTLS(l.roots, own, "store"))
	defer edge.Close()
	csr, _, err := pki.NewRequest("router-1.site1")
	l.must(err)
	renewed, err := edge.Renew(t.Context(), management.RenewRequest{CSR: string(csr)})
	l.must(err)
	if certs, err = pki.ParseCertificates([]byte(renewed.Certificate)); err != nil || certs[0].Subject.CommonName != "edge-1.site1" {
		t.Errorf("renewed certificate of %v, %v", certs[0].Subject, err)
	}
	if err := edge.PutToken(t.Context(), "edge-2.site1", tokenFor("s", "edge", "127.20.4.9")); management.StatusOf(err) != http.StatusForbidden {
		t.Errorf("an edge let another node in: %v", err)
	}

	l.must(m.PutToken(t.Context(), "edge-3.site1", tokenFor("third", "edge", "127.20.4.9")))
	l.must(m.RemoveNode(t.Context(), "edge-3.site1"))
	if _, _, err := l.join("edge-3.site1", "third"); management.StatusOf(err) != http.StatusForbidden {
		t.Errorf("a revoked token worked: %v", err)
	}
}

func TestConfiguration(t *testing.T) {
	l := newLab(t, "127.20.4.5")
	l.start()
	l.bootstrap(shared("r:9888"))
	l.ready()
	m := l.management()
	doc, err := m.Config(t.Context(), config.SharedFile)
	l.must(err)
	if doc.Author != "bootstrap" || doc.Revision == 0 {
		t.Errorf("after the bootstrap: %+v", doc)
	}
	change := func(text string, revision int64) (*management.Document, error) {
		return m.PutConfig(t.Context(), management.Document{Type: config.SharedFile, Text: text, Revision: revision, Author: "alice"})
	}
	next, err := change(doc.Text+"reg_max_expires=120\nreg_max_expirez=1\n", doc.Revision)
	l.must(err)
	if len(next.Warnings) != 1 || !strings.Contains(next.Warnings[0], "reg_max_expires") || next.Author != "alice (terraform)" || next.Revision <= doc.Revision {
		t.Errorf("after a change: %+v", next)
	}
	if _, err := change(doc.Text, doc.Revision); management.StatusOf(err) != http.StatusConflict || !strings.Contains(err.Error(), "alice") {
		t.Errorf("a change of an old revision: %v", err)
	}
	for text, says := range map[string][]string{
		"home_domain=example.com\nreg_max_expires=-1\n": {"shared_config:2", "reg_max_expires", `"-1"`, "a whole number from 1"},
		"home_domain=other.com\n":                       {"home_domain", "other.com", "example.com", "cannot be changed"},
		"reg_max_expires=60\n":                          {"home_domain"},
	} {
		_, err := change(text, next.Revision)
		if management.StatusOf(err) != http.StatusUnprocessableEntity {
			t.Errorf("%q: %v", text, err)
			continue
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q: %v does not say %q", text, err, s)
			}
		}
	}
	both := `{"routes":[{"name":"x","domain":"d","number":"+1","route":["sip:x"]}]}`
	if _, err := m.PutConfig(t.Context(), management.Document{Type: "bgcf_json", Text: both}); management.StatusOf(err) != http.StatusUnprocessableEntity {
		t.Errorf("an entry with domain and number: %v", err)
	}
	if _, err := m.Config(t.Context(), "no_such_type"); management.StatusOf(err) != http.StatusNotFound {
		t.Errorf("an unknown type: %v", err)
	}
	if empty, err := m.Config(t.Context(), "bgcf_json"); err != nil || empty.Revision != 0 {
		t.Errorf("a document that is not there: %+v, %v", empty, err)
	}
	// The store itself follows its configuration and says so.
	l.eventually(10*time.Second, func() error {
		view, err := m.Cluster(t.Context())
		if err != nil {
			return err
		}
		if !view.Healthy || len(view.Members) != 1 || !view.Members[0].Leader || len(view.Nodes) != 1 || view.Nodes[0].State != management.Ready ||
			view.Nodes[0].Applied[config.SharedFile] != next.Revision {
			return fmt.Errorf("the cluster shows %+v", view)
		}
		return nil
	})
	l.kill()
	l.start()
	l.ready()
	if again, err := m.Config(t.Context(), config.SharedFile); err != nil || again.Text != next.Text || again.Author != next.Author {
		t.Errorf("after a kill: %+v, %v", again, err)
	}
}
