package master

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/milenage"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

// Authentication schemes of a request. None asks for what the subscriber has: digest before AKA.
const (
	schemeAny    = ""
	schemeDigest = "digest"
	schemeAKA    = "aka"  // AKAv1-MD5
	schemeAKAv2  = "aka2" // AKAv2-MD5
)

// vector is the Multimedia-Auth part of an answer.
func (m *Master) vector(ctx context.Context, req *hss.AuthorizeRequest, p *subscribers.Private, resp *hss.AuthorizeResponse) (hss.Result, string) {
	scheme := req.GetScheme()
	if scheme == schemeAny {
		if scheme = schemeDigest; p.GetDigestHa1() == "" || len(req.GetResync()) > 0 {
			scheme = schemeAKA
		}
	}
	switch {
	case scheme == schemeDigest && p.GetDigestHa1() != "":
		resp.Digest = &hss.Digest{Ha1: p.GetDigestHa1(), Realm: p.GetRealm(), Qop: "auth"}
		if user := req.GetDigestUser(); user != "" && p.GetPlaintextPassword() != "" {
			resp.Digest.Ha1 = provisioning.HA1(user, p.GetRealm(), p.GetPlaintextPassword())
		}
		return hss.Result_RESULT_OK, ""
	case scheme == schemeDigest:
		return hss.Result_RESULT_UNSUPPORTED_SCHEME, fmt.Sprintf("%q has no digest credentials", req.GetImpi())
	case scheme != schemeAKA && scheme != schemeAKAv2:
		return hss.Result_RESULT_UNSUPPORTED_SCHEME, fmt.Sprintf("scheme %q is not known", scheme)
	case p.GetAka() == nil:
		return hss.Result_RESULT_UNSUPPORTED_SCHEME, fmt.Sprintf("%q has no AKA key", req.GetImpi())
	}
	v, err := m.challenge(ctx, req)
	switch {
	case errors.Is(err, errResync):
		return hss.Result_RESULT_RESYNC_REFUSED, err.Error()
	case errors.Is(err, subscribers.ErrNotFound): // deleted this moment
		return hss.Result_RESULT_UNKNOWN, err.Error()
	case err != nil:
		return failed(err)
	}
	resp.Aka = &hss.Aka{
		Challenge: base64.StdEncoding.EncodeToString(append(v.RAND[:], v.AUTN[:]...)),
		Response:  hex.EncodeToString(v.XRES[:]), CryptKey: hex.EncodeToString(v.CK[:]), IntegrityKey: hex.EncodeToString(v.IK[:]),
		Version: 1,
	}
	if scheme == schemeAKAv2 {
		resp.Aka.Version = 2
	}
	return hss.Result_RESULT_OK, ""
}

// errResync refuses a resynchronisation.
var errResync = errors.New("resynchronisation refused")

// challenge makes the next vector of a card. The sequence number is stored before the vector leaves, so no two nodes
// make two of one number.
func (m *Master) challenge(ctx context.Context, req *hss.AuthorizeRequest) (v milenage.Vector, err error) {
	card, err := m.subscribers.Advance(ctx, req.GetImpi(), func(card *subscribers.Aka) (uint64, error) {
		sqn := card.GetSqn()
		if len(req.GetResync()) > 0 {
			if sqn, err = resynchronise(card, req.GetResync()); err != nil {
				return 0, err
			}
		}
		return nextSQN(sqn)
	})
	if err != nil {
		return v, fmt.Errorf("making an AKA vector: %w", err)
	}
	c, err := milenage.New(card.GetK(), card.GetOpc())
	if err != nil {
		return v, fmt.Errorf("making an AKA vector for %s: %w", req.GetImpi(), err)
	}
	var challenge [milenage.RANDSize]byte
	_, _ = rand.Read(challenge[:]) // never fails since Go 1.24
	var amf [milenage.AMFSize]byte
	copy(amf[:], card.GetAmf())
	return c.Vector(challenge, card.GetSqn(), amf), nil
}

const (
	indexBits = 5       // of IND (TS 33.102 C.3.2)
	delta     = 1 << 28 // by which a card lets SEQ jump (TS 33.102 C.2.1)
)

// nextSQN is the generation of sequence numbers that does not depend on time (TS 33.102 C.1.1.2, C.3.2): SEQ rises by one
// with every vector, and IND goes round with it.
func nextSQN(sqn uint64) (uint64, error) {
	seq, index := sqn>>indexBits+1, (sqn+1)&(1<<indexBits-1)
	next := seq<<indexBits | index
	if next > milenage.MaxSQN {
		return 0, errors.New("the sequence numbers of the card are used up")
	}
	return next, nil
}

// resynchronise returns the sequence number to go on from (TS 33.102 6.3.5): ours if the card takes the one after it,
// else the card's. An AUTS that was not made with the card's key changes nothing.
func resynchronise(card *subscribers.Aka, text []byte) (uint64, error) {
	if len(text) != milenage.RANDSize+milenage.AUTSSize {
		return 0, fmt.Errorf("%w: RAND and AUTS have %d octets, not %d", errResync, milenage.RANDSize+milenage.AUTSSize, len(text))
	}
	c, err := milenage.New(card.GetK(), card.GetOpc())
	if err != nil {
		return 0, fmt.Errorf("resynchronising: %w", err)
	}
	theirs, err := c.Resynchronise([milenage.RANDSize]byte(text), [milenage.AUTSSize]byte(text[milenage.RANDSize:]))
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errResync, err)
	}
	seq, last := card.GetSqn()>>indexBits+1, theirs>>indexBits
	if seq > last && seq-last <= delta {
		return card.GetSqn(), nil
	}
	return theirs, nil
}
