package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// store is a signer with one token, as a store node is.
type store struct {
	site     *pki.Authority
	token    string
	subject  pki.Subject
	lifetime time.Duration
	fail     atomic.Int32 // so many calls fail first
	lose     atomic.Int32 // so many answers to joins are lost
	usedBy   atomic.Pointer[string]
	joins    atomic.Int32
	renewals atomic.Int32
}

func (s *store) Join(_ context.Context, req management.JoinRequest) (*management.JoinResponse, error) {
	if s.fail.Add(-1) >= 0 {
		return nil, errors.New("no quorum")
	}
	if req.Token != s.token {
		return nil, &management.Error{Status: 403, Message: "the token is not known"}
	}
	if used := s.usedBy.Swap(&req.CSR); used != nil && !sameKey(*used, req.CSR) {
		return nil, &management.Error{Status: 403, Message: "the token was used with another key"}
	}
	s.joins.Add(1)
	if s.lose.Add(-1) >= 0 {
		return nil, errors.New("connection reset")
	}
	return s.sign(req.CSR)
}

func sameKey(a, b string) bool {
	var keys [2]any
	for n, text := range []string{a, b} {
		block, _ := pem.Decode([]byte(text))
		csr, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return false
		}
		keys[n] = csr.PublicKey
	}
	return keys[0].(*ecdsa.PublicKey).Equal(keys[1])
}

func (s *store) Renew(_ context.Context, req management.RenewRequest) (*management.JoinResponse, error) {
	if s.fail.Add(-1) >= 0 {
		return nil, errors.New("no quorum")
	}
	s.renewals.Add(1)
	return s.sign(req.CSR)
}

func (s *store) sign(csr string) (*management.JoinResponse, error) {
	chain, err := s.site.Sign([]byte(csr), s.subject, s.lifetime)
	return &management.JoinResponse{Certificate: string(chain)}, err
}

func fixture(t *testing.T) (Config, *store) {
	t.Helper()
	deployment, err := pki.NewDeploymentCA("lab")
	if err != nil {
		t.Fatal(err)
	}
	site, err := deployment.NewSiteCA("site1")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Name: "edge-1.site1", Role: config.Edge, Site: "site1", Zone: "example.com", Addresses: []string{"127.21.0.5"},
		Directory: filepath.Join(t.TempDir(), "pki"), Roots: deployment.CertificatePEM(), Token: "secret"}
	return cfg, &store{site: site, token: "secret", subject: pki.Subject{Name: cfg.Name, Role: "edge"}}
}

func open(t *testing.T, cfg Config, s *store) *Identity {
	t.Helper()
	i, err := Open(cfg, Deps{Log: slog.New(slog.DiscardHandler), Signers: func(context.Context, *tls.Config) ([]Signer, error) { return []Signer{s}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestJoinsOnceAndKeepsTheCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, s := fixture(t)
		s.fail.Store(3)
		i := open(t, cfg, s)
		if _, err := i.Certificate(); !errors.Is(err, ErrUnjoined) {
			t.Errorf("before joining: %v", err)
		}
		if err := i.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := i.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		first, err := i.Certificate()
		if err != nil || s.joins.Load() != 1 {
			t.Fatalf("%d joins, %v", s.joins.Load(), err)
		}
		_, key := i.Files()
		if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the key's file: %v, %v", info, err)
		}
		again, err := open(t, cfg, s).Certificate()
		if err != nil || !again.Leaf.Equal(first.Leaf) {
			t.Errorf("after a restart: %v", err)
		}
	})
}

func TestLostAnswersToJoinsAreSurvived(t *testing.T) {
	cfg, s := fixture(t)
	s.lose.Store(3)
	first := open(t, cfg, s)
	for range 2 {
		if err := first.joinOnce(t.Context()); err == nil {
			t.Fatal("joined without an answer")
		}
	}
	second := open(t, cfg, s) // after a restart
	_ = second.joinOnce(t.Context())
	if err := second.joinOnce(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestJoinEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, s := fixture(t)
		cfg.Token = "wrong"
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := open(t, cfg, s).Join(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		cfg.Token = ""
		if err := open(t, cfg, s).Join(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a token: got %v", err)
		}
	})
}

func TestJoinEndsWhenTheNodeIsSignedElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, s := fixture(t)
		cfg.Token = ""
		i := open(t, cfg, s)
		done := make(chan error)
		go func() { done <- i.Join(t.Context()) }()
		synctest.Wait()
		if err := i.SignWith(s.site); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestRenewsAtTwoThirdsOfItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, s := fixture(t)
		s.lifetime = 30 * time.Hour
		i := open(t, cfg, s)
		if err := i.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- i.Run(ctx) }()
		time.Sleep(19 * time.Hour) // fake time
		if n := s.renewals.Load(); n != 0 {
			t.Errorf("%d renewals after 19 of 30 hours", n)
		}
		s.fail.Store(4) // the store is away for a while
		time.Sleep(2 * time.Hour)
		if n := s.renewals.Load(); n != 1 {
			t.Errorf("%d renewals after 21 of 30 hours", n)
		}
		time.Sleep(200 * time.Hour)
		cert, err := i.Certificate()
		if err != nil || time.Until(cert.Leaf.NotAfter) < 9*time.Hour {
			t.Errorf("the certificate was not kept fresh: %v %v", cert.Leaf.NotAfter, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestWrongCertificatesAreNotTaken(t *testing.T) {
	cfg, s := fixture(t)
	i := open(t, cfg, s)
	s.subject.Role = "store"
	if err := i.joinOnce(t.Context()); err == nil {
		t.Error("a certificate of another role was taken")
	}
	_, stranger := fixture(t)
	stranger.subject = i.Subject()
	foreign := open(t, cfg, stranger)
	if err := foreign.joinOnce(t.Context()); err == nil {
		t.Error("a certificate of another deployment was taken")
	}
	cert, key := i.Files()
	for _, path := range []string{cert, key} {
		if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := open(t, cfg, s).Certificate(); !errors.Is(err, ErrUnjoined) {
		t.Errorf("with rubbish on disk: %v", err)
	}
}

func TestInterruptedInstallIsFinished(t *testing.T) {
	cfg, s := fixture(t)
	i := open(t, cfg, s)
	_, keyPath := i.Files()
	for _, before := range []string{"", "an older key"} {
		if err := i.SignWith(s.site); err != nil {
			t.Fatal(err)
		}
		want, _ := i.Certificate()
		if err := os.Rename(keyPath, keyPath+".new"); err != nil {
			t.Fatal(err)
		}
		if before != "" {
			if err := os.WriteFile(keyPath, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			got, err := open(t, cfg, s).Certificate()
			if err != nil || !got.Leaf.Equal(want.Leaf) {
				t.Errorf("with key %q: %v", before, err)
			}
		}
	}
}

func TestOpenServerWorksBeforeJoining(t *testing.T) {
	cfg, s := fixture(t)
	i := open(t, cfg, s)
	conf, err := i.OpenServer()
	if err != nil {
		t.Fatal(err)
	}
	before, err := conf.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.SignWith(s.site); err != nil {
		t.Fatal(err)
	}
	after, err := conf.GetCertificate(nil)
	own, _ := i.Certificate()
	if err != nil || after != own || after == before {
		t.Errorf("the joined certificate is not shown: %v", err)
	}
}
