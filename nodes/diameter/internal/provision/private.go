package provision

import (
	"crypto/md5" //nolint:gosec // HA1 of RFC 2617 is MD5
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
)

// credentials is the body of /private/<impi>.
type credentials struct {
	DigestHA1 string `json:"digest_ha1,omitempty"`
	Realm     string `json:"realm,omitempty"`
	Plaintext string `json:"plaintext_password,omitempty"`
}

var ha1Pattern = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)

func (a *api) getPrivate(r *http.Request) (answer, error) {
	p, err := a.db.Private(r.Context(), r.PathValue("impi"))
	if err != nil {
		return answer{}, err
	}
	return answer{json: credentials{p.GetDigestHa1(), p.GetRealm(), p.GetPlaintextPassword()}}, nil
}

// putPrivate takes a password or its digest. A password is kept and its digest computed; a digest erases a password.
func (a *api) putPrivate(r *http.Request) (answer, error) {
	text, err := body(r)
	if err != nil {
		return answer{}, err
	}
	var c credentials
	if err := json.Unmarshal(text, &c); err != nil {
		return answer{}, badRequest(errors.New("the body is not the JSON that this call takes: " + err.Error()))
	}
	if (c.DigestHA1 == "") == (c.Plaintext == "") {
		return answer{}, badRequest(errors.New("give either digest_ha1 or plaintext_password"))
	}
	if c.DigestHA1 != "" && !ha1Pattern.MatchString(c.DigestHA1) {
		return answer{}, badRequest(errors.New("digest_ha1 is not an MD5 digest in hexadecimal"))
	}
	if c.Realm == "" {
		c.Realm = a.home()
	}
	impi := r.PathValue("impi")
	if c.Plaintext != "" {
		sum := md5.Sum([]byte(impi + ":" + c.Realm + ":" + c.Plaintext)) //nolint:gosec // see above
		c.DigestHA1 = hex.EncodeToString(sum[:])
	}
	return answer{}, a.db.PutPrivate(r.Context(), impi, c.DigestHA1, c.Realm, c.Plaintext)
}

// deletePrivate tells a missing identity apart: 204.
func (a *api) deletePrivate(r *http.Request) (answer, error) {
	if _, err := a.db.Private(r.Context(), r.PathValue("impi")); err != nil {
		return answer{}, err
	}
	return answer{}, a.db.DeletePrivate(r.Context(), r.PathValue("impi"))
}

func (a *api) privateSets(r *http.Request) (answer, error) {
	sets, err := a.db.PrivateSets(r.Context(), r.PathValue("impi"))
	if err != nil {
		return answer{}, err
	}
	ids := []string{}
	for _, s := range sets {
		ids = append(ids, s.GetId())
	}
	return answer{json: map[string][]string{"associated_implicit_registration_sets": ids}}, nil
}

func (a *api) privatePublics(r *http.Request) (answer, error) {
	sets, err := a.db.PrivateSets(r.Context(), r.PathValue("impi"))
	if err != nil {
		return answer{}, err
	}
	ids := []string{}
	for _, s := range sets {
		ids = append(ids, s.Publics()...)
	}
	return answer{json: map[string][]string{"associated_public_ids": ids}}, nil
}

func (a *api) link(r *http.Request) (answer, error) {
	return answer{}, a.db.Link(r.Context(), r.PathValue("impi"), r.PathValue("irs"))
}

func (a *api) unlink(r *http.Request) (answer, error) {
	s, err := a.db.Set(r.Context(), r.PathValue("irs"))
	if err != nil && !errors.Is(err, subscribers.ErrNotFound) {
		return answer{}, err
	}
	missing := !s.Has(r.PathValue("impi"))
	if err := a.db.Unlink(r.Context(), r.PathValue("impi"), r.PathValue("irs")); err != nil {
		return answer{}, err
	}
	if missing {
		return answer{status: http.StatusNoContent}, nil
	}
	return answer{}, nil
}
