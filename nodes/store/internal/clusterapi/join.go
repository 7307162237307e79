package clusterapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
)

var namePattern = regexp.MustCompile(`^([a-z]+)-[0-9]+\.([a-z0-9-]+)$`)

var digestPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (a *API) putToken(w http.ResponseWriter, r *http.Request) (any, error) {
	name := r.PathValue("name")
	var t management.Token
	if err := management.ReadJSON(w, r, &t); err != nil {
		return nil, err
	}
	if err := a.checkToken(name, &t); err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, err.Error())
	}
	if err := a.Tokens.PutToken(r.Context(), name, t); err != nil {
		return nil, err
	}
	by, _ := pki.Peer(r.TLS)
	a.Log.Info("a node may join", "node", name, "until", t.ExpiresAt, "by", by)
	return struct{}{}, nil
}

func (a *API) checkToken(name string, t *management.Token) error {
	parts := namePattern.FindStringSubmatch(name)
	if parts == nil {
		return fmt.Errorf("node name %q: it must be <role>-<index>.<site>", name)
	}
	if site := a.Options().Site; parts[2] != site {
		return fmt.Errorf("node name %q: this is site %s", name, site)
	}
	t.SHA256 = strings.ToLower(t.SHA256)
	switch {
	case !digestPattern.MatchString(t.SHA256):
		return errors.New("sha256 must be the 64 hexadecimal digits of the token's digest")
	case !config.Role(t.Role).Known() || t.Role != parts[1]:
		return fmt.Errorf("role %q does not fit the name %q", t.Role, name)
	case len(t.Addresses) == 0:
		return errors.New("addresses is empty: the node's certificate must name one")
	case !t.ExpiresAt.After(a.now()):
		return errors.New("expires_at must be in the future")
	}
	for _, address := range t.Addresses {
		if _, err := netip.ParseAddr(address); err != nil {
			return fmt.Errorf("address %q is not an IP address", address)
		}
	}
	return nil
}

// errToken is the one answer to every join that does not prove a token, so that guessing learns nothing.
var errToken = refuse(http.StatusForbidden, "the join token is wrong, used, expired or revoked")

// join signs the first certificate of a node. The token is bound to the key of the first request, which may ask again
// (its answer may have been lost); any other key is refused.
func (a *API) join(w http.ResponseWriter, r *http.Request) (any, error) {
	var req management.JoinRequest
	if err := management.ReadJSON(w, r, &req); err != nil {
		return nil, err
	}
	key, err := keyDigest(req.CSR)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, err.Error())
	}
	t, err := a.Tokens.Token(r.Context(), req.Name)
	if errors.Is(err, cluster.ErrNotFound) {
		return nil, a.refuseJoin(r, req.Name, "no token")
	}
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(req.Token))
	switch {
	case subtle.ConstantTimeCompare([]byte(hex.EncodeToString(digest[:])), []byte(t.SHA256)) != 1:
		return nil, a.refuseJoin(r, req.Name, "wrong token")
	case !t.ExpiresAt.After(a.now()):
		return nil, a.refuseJoin(r, req.Name, "expired token")
	case t.UsedBy != "" && t.UsedBy != key:
		return nil, a.refuseJoin(r, req.Name, "used token")
	}
	if t.UsedBy == "" {
		if err := a.Tokens.UseToken(r.Context(), req.Name, t, key); errors.Is(err, cluster.ErrConflict) {
			return nil, a.refuseJoin(r, req.Name, "token used at the same time")
		} else if err != nil {
			return nil, err
		}
	}
	if err := a.Etcd.Allow(r.Context(), req.Name, t.Role == string(config.Store)); err != nil {
		return nil, err
	}
	o := a.Options()
	resp, err := a.sign(req.CSR, pki.Subject{
		Name: req.Name, Role: t.Role, Addresses: t.Addresses, DNSNames: pki.Names(config.Role(t.Role), req.Name, o.Site, o.Zone),
	})
	if err == nil {
		a.Log.Info("a node joined", "node", req.Name, "remote", r.RemoteAddr)
	}
	return resp, err
}

func (a *API) refuseJoin(r *http.Request, name, why string) error {
	a.Log.Warn("a join was refused", "node", name, "remote", r.RemoteAddr, "reason", why)
	return errToken
}

// renew signs a further certificate that says what the caller's present one says. A node that was forgotten keeps its
// certificate until it ends.
func (a *API) renew(w http.ResponseWriter, r *http.Request) (any, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, refuse(http.StatusUnauthorized, "a certificate of this deployment is needed")
	}
	var req management.RenewRequest
	if err := management.ReadJSON(w, r, &req); err != nil {
		return nil, err
	}
	subject := pki.SubjectOf(r.TLS.PeerCertificates[0])
	if !config.Role(subject.Role).Known() {
		return nil, refuse(http.StatusForbidden, fmt.Sprintf("%s is no node: this CA signs only nodes", subject.Name))
	}
	return a.sign(req.CSR, subject)
}

func (a *API) sign(csr string, s pki.Subject) (any, error) {
	authority, err := a.Authority()
	if err != nil {
		return nil, fmt.Errorf("this node cannot sign: %w", err)
	}
	chain, err := authority.Sign([]byte(csr), s, 0)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, err.Error())
	}
	return management.JoinResponse{Certificate: string(chain)}, nil
}

// keyDigest names the public key of a certificate request.
func keyDigest(csr string) (string, error) {
	block, _ := pem.Decode([]byte(csr))
	if block == nil {
		return "", errors.New("csr is not a PEM certificate request")
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("csr: %w", err)
	}
	if err := parsed.CheckSignature(); err != nil {
		return "", fmt.Errorf("csr: the requester does not hold the key: %w", err)
	}
	sum := sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:]), nil
}
