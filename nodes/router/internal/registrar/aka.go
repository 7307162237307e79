package registrar

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/authn"
)

// Challenger keeps challenges that cannot prove themselves: those of AKA, whose nonce is made by the HSS. They are in the
// store and not here, so that any router checks the answer.
type Challenger interface {
	Get(ctx context.Context, table string, keys ...string) ([]*records.Row, error)
	Swap(ctx context.Context, table, key string, version uint64, value []byte) (now uint64, swapped bool, err error)
	Delete(ctx context.Context, table, key string, version uint64) (deleted bool, err error)
}

const (
	challengeTable = "challenges"
	// mostChallenges of one private identity wait for an answer; the oldest gives way. It bounds the row whatever is sent.
	mostChallenges = 8
	challengeSwaps = 16 // before a row that others keep changing is given up
)

// Schemes that the HSS is asked for; without one it chooses.
const (
	schemeDigest = "digest"
	schemeAKA    = "aka"
	schemeAKAv2  = "aka2"
)

// scheme is that of TS 24.229 5.4.1.2.1: a P-CSCF that has or lacks a security association speaks for a phone with AKA.
func scheme(c authn.Credentials) string {
	switch {
	case c.AKAVersion() == 2:
		return schemeAKAv2
	case c.IntegrityProtected == "yes" || c.IntegrityProtected == "no":
		return schemeAKA
	default:
		return ""
	}
}

// protected tells a REGISTER that the P-CSCF has authenticated: it came through a security association or TLS of a phone
// that has answered a challenge before. The edge lets no phone say that itself.
func protected(c authn.Credentials) bool {
	return c.IntegrityProtected == "tls-yes" || c.IntegrityProtected == "yes" && c.Response == "" && c.AUTS == ""
}

// wantsVector tells a REGISTER that is answered with a challenge, or checked with the digest of a password. What answers a
// challenge of AKA must not use up a sequence number.
func wantsVector(c authn.Credentials) bool {
	return !protected(c) && c.AUTS == "" && (c.Response == "" || c.AKAVersion() == 0)
}

// answered checks the response to a challenge of AKA. The challenge is consumed first: it serves once, right or wrong.
func (r *Registrar) answered(ctx context.Context, a *attempt, c authn.Credentials) proxy.Decision {
	stored, err := r.take(ctx, a.impi, c.Nonce)
	switch {
	case err != nil:
		return r.noStore(a, err)
	case stored == nil:
		r.deps.Metrics.challenge("stale")
		return r.again(ctx, a, c, nil)
	}
	with := authn.AKA{Version: stored.GetVersion()}
	for _, f := range []struct {
		text string
		into *[]byte
	}{{stored.GetXres(), &with.XRES}, {stored.GetCryptKey(), &with.CK}, {stored.GetIntegrityKey(), &with.IK}} {
		if *f.into, err = hex.DecodeString(f.text); err != nil {
			return r.noStore(a, fmt.Errorf("a challenge that is not hexadecimal: %w", err))
		}
	}
	if err := c.CheckAKA(with, a.settings.Names.HomeDomain(), sip.REGISTER); err != nil {
		return r.refuse(ctx, a)
	}
	return r.bind(ctx, a)
}

const (
	randSize = 16
	autsSize = 14
)

// resynchronise takes the AUTS of a card that has seen a higher sequence number (RFC 3310 3.4). One challenge allows one,
// and the challenge after it none: a card that goes on is refused.
func (r *Registrar) resynchronise(ctx context.Context, a *attempt, c authn.Credentials) proxy.Decision {
	auts, err := base64.StdEncoding.DecodeString(c.AUTS)
	if err != nil || len(auts) != autsSize {
		return proxy.AnswerReason(a.req, 400, "registrar", "auts is not base64 of 14 octets")
	}
	stored, err := r.take(ctx, a.impi, c.Nonce)
	switch {
	case err != nil:
		return r.noStore(a, err)
	case stored == nil:
		r.deps.Metrics.challenge("stale")
		return r.again(ctx, a, c, nil)
	case stored.GetResynchronised():
		return r.refuse(ctx, a)
	}
	nonce, err := base64.StdEncoding.DecodeString(stored.GetNonce())
	if err != nil || len(nonce) < randSize {
		return r.noStore(a, errors.New("a challenge whose nonce holds no RAND"))
	}
	r.deps.Metrics.challenge("resynchronise")
	return r.again(ctx, a, c, append(nonce[:randSize:randSize], auts...))
}

// again asks the HSS for what the first question left out, and challenges.
func (r *Registrar) again(ctx context.Context, a *attempt, c authn.Credentials, resync []byte) proxy.Decision {
	q, err := Question(a.m, a.settings.Names.HomeDomain())
	if err != nil {
		return proxy.AnswerReason(a.req, 400, "registrar", err.Error())
	}
	if q.Scheme == "" {
		q.Scheme = schemeAKA // it answered a challenge of that kind
	}
	q.WantVector, q.WantProfile, q.Resync = true, false, resync
	answer, err := r.deps.HSS.Authorize(ctx, q)
	if err != nil {
		answer = &hss.AuthorizeResponse{Result: hss.ResultOf(err), Detail: err.Error()}
	}
	if status := RefusalOf(answer.GetResult()); status != 0 {
		return proxy.AnswerReason(a.req, status, "hss", answer.GetDetail())
	}
	a.known = answer
	if answer.GetAka() == nil {
		return proxy.AnswerReason(a.req, 500, "registrar", "the HSS gives no AKA vector")
	}
	return r.challengeAKA(ctx, a, resync == nil, resync != nil)
}

// challengeAKA keeps a challenge and sends it.
func (r *Registrar) challengeAKA(ctx context.Context, a *attempt, stale, resynchronised bool) proxy.Decision {
	v := a.known.GetAka()
	err := r.keep(ctx, a.impi, &Challenge{
		Nonce: v.GetChallenge(), Xres: v.GetResponse(), CryptKey: v.GetCryptKey(), IntegrityKey: v.GetIntegrityKey(), Version: v.GetVersion(),
		Resynchronised: resynchronised, ExpiresAt: r.deps.Now().Add(challengeLife).UnixMilli(),
	})
	if err != nil {
		return r.noStore(a, err)
	}
	r.await(a, v.GetChallenge())
	answer := a.m.NewResponse(401, "", newTag())
	answer.Add(sip.WWWAuthenticate, authn.ChallengeAKA(a.settings.Names.HomeDomain(), v.GetChallenge(), v.GetVersion(), v.GetCryptKey(), v.GetIntegrityKey(), stale))
	return proxy.AnswerWith(answer)
}

// noStore answers when challenges cannot be kept or read.
func (r *Registrar) noStore(a *attempt, err error) proxy.Decision {
	r.deps.Log.Error("challenge of AKA", "impi", a.impi, "call_id", a.m.CallID(), "error", err)
	return proxy.AnswerReason(a.req, 500, "store", reason(err))
}

// keep adds a challenge to those of a private identity.
func (r *Registrar) keep(ctx context.Context, impi string, c *Challenge) error {
	return r.changeChallenges(ctx, impi, func(row *Challenges) bool {
		row.Challenges = append(row.Challenges, c)
		row.Challenges = row.Challenges[max(0, len(row.Challenges)-mostChallenges):]
		return true
	})
}

// take removes a challenge and returns it; nil if there is none: it is used, or too old, or not ours. Of several who ask
// at once, on whatever routers, one gets it.
func (r *Registrar) take(ctx context.Context, impi, nonce string) (*Challenge, error) {
	var found *Challenge
	err := r.changeChallenges(ctx, impi, func(row *Challenges) bool {
		found = nil
		row.Challenges = slices.DeleteFunc(row.GetChallenges(), func(c *Challenge) bool { // twice there if a swap was repeated
			if c.GetNonce() == nonce {
				found = c
				return true
			}
			return false
		})
		return found != nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// forget drops every challenge: who is deregistered must not come back with an answer to an old one.
func forget(row *Challenges) bool {
	there := len(row.GetChallenges()) > 0
	row.Challenges = nil
	return there
}

// changeChallenges is the read-modify-write of a row, from which what is too old has gone. decide tells whether the row is
// to be written; it is called again when somebody else was faster.
func (r *Registrar) changeChallenges(ctx context.Context, impi string, decide func(*Challenges) bool) error {
	for range challengeSwaps {
		rows, err := r.deps.Challenges.Get(ctx, challengeTable, impi)
		if err != nil {
			return fmt.Errorf("reading challenges: %w", err)
		}
		row := &Challenges{}
		if err := proto.Unmarshal(rows[0].GetValue(), row); err != nil {
			return fmt.Errorf("decoding challenges: %w", err)
		}
		now := r.deps.Now().UnixMilli()
		row.Challenges = slices.DeleteFunc(row.Challenges, func(c *Challenge) bool { return c.GetExpiresAt() <= now })
		if !decide(row) {
			return nil
		}
		done, err := r.writeChallenges(ctx, impi, rows[0].GetVersion(), row)
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("changing challenges: the row keeps changing: %w", rpc.ErrUnavailable)
}

func (r *Registrar) writeChallenges(ctx context.Context, impi string, version uint64, row *Challenges) (done bool, err error) {
	if len(row.GetChallenges()) == 0 {
		done, err = r.deps.Challenges.Delete(ctx, challengeTable, impi, version)
	} else {
		var value []byte
		if value, err = proto.Marshal(row); err == nil {
			_, done, err = r.deps.Challenges.Swap(ctx, challengeTable, impi, version, value)
		}
	}
	if err != nil {
		return false, fmt.Errorf("writing challenges: %w", err)
	}
	return done, nil
}
