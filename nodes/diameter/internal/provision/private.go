package provision

import (
	"crypto/md5" //nolint:gosec // HA1 of RFC 2617 is MD5
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/milenage"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
)

// credentials is the body of /private/<impi>.
type credentials struct {
	DigestHA1 string `json:"digest_ha1,omitempty"`
	Realm     string `json:"realm,omitempty"`
	Plaintext string `json:"plaintext_password,omitempty"`
	HasAKA    bool   `json:"aka,omitempty"` // all that is shown of what follows
	card
}

// card is the part for AKA (TS 33.102), in hexadecimal. It goes in and never comes out.
type card struct {
	K   string `json:"aka_k,omitempty"`
	OP  string `json:"aka_op,omitempty"`
	OPc string `json:"aka_opc,omitempty"`
	AMF string `json:"aka_amf,omitempty"`
}

// defaultAMF has the separation bit set, as TS 33.401 wants it for E-UTRAN; IMS does not look at it.
const defaultAMF = "8000"

// read checks the card and derives the OPc from an OP.
func (c card) read() (k, opc, amf []byte, err error) {
	if c == (card{}) {
		return nil, nil, nil, nil
	}
	if c.K == "" || (c.OP == "") == (c.OPc == "") {
		return nil, nil, nil, errors.New("AKA needs aka_k and either aka_op or aka_opc")
	}
	if c.AMF == "" {
		c.AMF = defaultAMF
	}
	if k, err = octets("aka_k", c.K, milenage.KeySize); err != nil {
		return nil, nil, nil, err
	}
	if amf, err = octets("aka_amf", c.AMF, milenage.AMFSize); err != nil {
		return nil, nil, nil, err
	}
	if c.OPc != "" {
		opc, err = octets("aka_opc", c.OPc, milenage.KeySize)
		return k, opc, amf, err
	}
	op, err := octets("aka_op", c.OP, milenage.KeySize)
	if err != nil {
		return nil, nil, nil, err
	}
	opc, err = milenage.OPc(k, op)
	return k, opc, amf, err //nolint:wrapcheck // it names what is wrong
}

// octets reads a field; the error does not repeat what may be a key.
func octets(name, text string, size int) ([]byte, error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != size {
		return nil, fmt.Errorf("%s is not %d octets in hexadecimal", name, size)
	}
	return b, nil
}

var ha1Pattern = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)

func (a *api) getPrivate(r *http.Request) (answer, error) {
	p, err := a.db.Private(r.Context(), r.PathValue("impi"))
	if err != nil {
		return answer{}, err
	}
	return answer{json: credentials{DigestHA1: p.GetDigestHa1(), Realm: p.GetRealm(), Plaintext: p.GetPlaintextPassword(), HasAKA: p.GetAka() != nil}}, nil
}

// putPrivate takes a password or its digest, a card's AKA credentials, or both kinds; what is of a kind that is not given
// stays. A password is kept and its digest computed; a digest erases a password.
func (a *api) putPrivate(r *http.Request) (answer, error) {
	text, err := body(r)
	if err != nil {
		return answer{}, err
	}
	var c credentials
	if err := json.Unmarshal(text, &c); err != nil {
		return answer{}, badRequest(errors.New("the body is not the JSON that this call takes: " + err.Error()))
	}
	k, opc, amf, err := c.read()
	if err != nil {
		return answer{}, badRequest(err)
	}
	if c.DigestHA1 != "" && c.Plaintext != "" || c.DigestHA1 == "" && c.Plaintext == "" && k == nil {
		return answer{}, badRequest(errors.New("give either digest_ha1 or plaintext_password, or aka_k with aka_opc or aka_op"))
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
	return answer{}, a.db.PutPrivate(r.Context(), impi, subscribers.Credentials{
		Realm: c.Realm, DigestHA1: c.DigestHA1, Plaintext: c.Plaintext, K: k, OPc: opc, AMF: amf,
	})
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
