package functions_test

import (
	"context"
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // RFC 3310
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

const cardContact = "Contact: <sip:card@1.2.3.4>"

// inWithCard is in with a subscriber who has a card and no password.
func inWithCard(t *testing.T, test func(w *world)) {
	t.Helper()
	in(t, "", func(w *world) {
		w.hss.AddCard("card@ims.test", "sip:card@ims.test")
		test(w)
	})
}

func (w *world) cardSends(router string, headers ...string) {
	w.edge.Send(router, w.registerText("card", "c", append(headers, cardContact)...))
}

// answerAKA answers a challenge as a phone does whose card has computed the vector v.
func answerAKA(challenge *sip.Message, v *hss.Aka) string {
	raw := func(text string) string { b, _ := hex.DecodeString(text); return string(b) }
	password := raw(v.GetResponse())
	if v.GetVersion() == 2 {
		h := hmac.New(md5.New, []byte(password+raw(v.GetIntegrityKey())+raw(v.GetCryptKey())))
		h.Write([]byte("http-digest-akav2-password"))
		password = base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	return answer(challenge, "card", password) + fmt.Sprintf(",algorithm=AKAv%d-MD5", v.GetVersion())
}

// asked checks a challenge and returns the vector that it is made of, the last one that the HSS gave.
func (w *world) asked(challenge *sip.Message, stale bool) *hss.Aka {
	w.t.Helper()
	vectors := w.hss.Vectors()
	v := vectors[len(vectors)-1]
	got := challenge.Get(sip.WWWAuthenticate)
	for _, want := range []string{
		`Digest realm="ims.test"`, `nonce="` + v.GetChallenge() + `"`, fmt.Sprintf("algorithm=AKAv%d-MD5", v.GetVersion()), `qop="auth"`,
		`ck="` + v.GetCryptKey() + `"`, `ik="` + v.GetIntegrityKey() + `"`,
	} {
		if !strings.Contains(got, want) {
			w.t.Errorf("the challenge %s lacks %s", got, want)
		}
	}
	if strings.Contains(got, "stale=true") != stale || strings.Contains(got, v.GetResponse()) {
		w.t.Errorf("challenge %s, stale must be %v", got, stale)
	}
	return v
}

// One router asks, the other checks; an answer serves once, on whatever router.
func TestAKAOnTwoRouters(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("AKAv%d", version), func(t *testing.T) {
			inWithCard(t, func(w *world) {
				first := fmt.Sprintf(`Authorization: Digest username="card@ims.test",realm="ims.test",nonce="",uri="sip:ims.test",response="",algorithm=AKAv%d-MD5`, version)
				w.cardSends(icscf, first)
				challenge := w.edge.Expect("401")
				v := w.asked(challenge, false)
				a := answerAKA(challenge, v)
				w.cardSends(otherICSCF, a)
				w.edge.Expect("200")
				if q, n, s := w.hss.Calls("authorize"), len(w.hss.Vectors()), w.store.Swaps(); q != 2 || n != 1 || s != 1 {
					t.Errorf("%d questions, %d vectors, %d swaps of the registration, want 2, 1, 1", q, n, s)
				}
				for i, router := range []string{icscf, otherICSCF} {
					w.cardSends(router, a)
					w.asked(w.edge.Expect("401"), true)
					if n := len(w.hss.Vectors()); n != i+2 {
						t.Errorf("%d vectors after %d replays", n, i+1)
					}
				}
			})
		})
	}
}

// The same answer reaches two routers at once: it registers once.
func TestAKAAnswerTwiceAtOnce(t *testing.T) {
	inWithCard(t, func(w *world) {
		w.cardSends(icscf)
		challenge := w.edge.Expect("401")
		a := answerAKA(challenge, w.asked(challenge, false))
		w.cardSends(icscf, a)
		w.cardSends(otherICSCF, a)
		first, second := w.edge.Maybe(time.Minute), w.edge.Maybe(time.Minute)
		if first == nil || second == nil || first.Status+second.Status != 200+401 {
			t.Errorf("got %v and %v, want one 200 and one 401", first, second)
		}
	})
}

func TestAKAWrongResponse(t *testing.T) {
	inWithCard(t, func(w *world) {
		w.cardSends(icscf)
		challenge := w.edge.Expect("401")
		v := w.asked(challenge, false)
		w.cardSends(otherICSCF, answer(challenge, "card", "wrong")+",algorithm=AKAv1-MD5")
		w.edge.Expect("403")
		if got := w.assigned(); got != "dereg-auth-failed card@ims.test" {
			t.Errorf("the HSS heard %q", got)
		}
		w.cardSends(icscf, answerAKA(challenge, v)) // no second try
		w.asked(w.edge.Expect("401"), true)
	})
}

// An answer of another kind is no answer.
func TestAKAIsNotMD5(t *testing.T) {
	inWithCard(t, func(w *world) {
		w.cardSends(icscf)
		challenge := w.edge.Expect("401")
		v := w.asked(challenge, false)
		xres, _ := hex.DecodeString(v.GetResponse())
		w.cardSends(icscf, answer(challenge, "card", string(xres))) // algorithm=MD5
		w.asked(w.edge.Expect("401"), true)
		w.cardSends(icscf, answer(challenge, "card", string(xres))+",algorithm=AKAv2-MD5")
		w.edge.Expect("403")
		// Nor does a password's owner get in by claiming to have a card.
		w.edge.Send(icscf, w.registerText("alice", "d", "Contact: <sip:alice@1.2.3.4>"))
		w.edge.Send(icscf, w.registerText("alice", "d", "Contact: <sip:alice@1.2.3.4>", answer(w.edge.Expect("401"), "alice", "secret")+",algorithm=AKAv1-MD5"))
		w.edge.Expect("403")
	})
}

func TestAKAChallengeLapses(t *testing.T) {
	for after, want := range map[time.Duration]string{39 * time.Second: "200", 41 * time.Second: "401"} {
		inWithCard(t, func(w *world) {
			w.cardSends(icscf)
			challenge := w.edge.Expect("401")
			v := w.asked(challenge, false)
			time.Sleep(after)
			w.cardSends(icscf, answerAKA(challenge, v))
			w.edge.Expect(want)
		})
	}
}

// Who is deregistered by the network does not come back with an answer to an old challenge.
func TestAKAChallengeEndsWithDeregistration(t *testing.T) {
	inWithCard(t, func(w *world) {
		w.cardSends(icscf)
		challenge := w.edge.Expect("401")
		a := answerAKA(challenge, w.asked(challenge, false))
		if _, err := w.second.Registrar.Deregister(t.Context(), "sip:card@ims.test", "card@ims.test", false); err != nil {
			t.Fatal(err)
		}
		w.cardSends(icscf, a)
		w.asked(w.edge.Expect("401"), true)
	})
}

func TestAKAResynchronisation(t *testing.T) {
	auts := func(challenge *sip.Message, last byte) string {
		raw := append([]byte("thirteen octe"), last)
		return answer(challenge, "card", "") + `,algorithm=AKAv1-MD5,auts="` + base64.StdEncoding.EncodeToString(raw) + `"`
	}
	inWithCard(t, func(w *world) {
		w.cardSends(icscf)
		first := w.edge.Expect("401")
		v := w.asked(first, false)
		w.cardSends(otherICSCF, auts(first, 1))
		second := w.edge.Expect("401")
		again := w.asked(second, false)
		nonce, _ := base64.StdEncoding.DecodeString(v.GetChallenge())
		if got := w.hss.Resyncs(); len(got) != 1 || string(got[0]) != string(nonce[:16])+"thirteen octe\x01" {
			t.Errorf("the HSS was given %x", got)
		}
		w.cardSends(icscf, auts(first, 1)) // the first challenge is used
		w.asked(w.edge.Expect("401"), true)
		if n := len(w.hss.Resyncs()); n != 1 {
			t.Errorf("%d resynchronisations of one challenge", n)
		}
		w.cardSends(icscf, answerAKA(second, again))
		w.edge.Expect("200")
	})
	t.Run("no end of it", func(t *testing.T) {
		inWithCard(t, func(w *world) {
			w.cardSends(icscf)
			w.cardSends(otherICSCF, auts(w.edge.Expect("401"), 1))
			w.cardSends(icscf, auts(w.edge.Expect("401"), 1))
			w.edge.Expect("403")
			if n := len(w.hss.Resyncs()); n != 1 {
				t.Errorf("%d resynchronisations", n)
			}
		})
	})
	t.Run("forged", func(t *testing.T) {
		inWithCard(t, func(w *world) {
			w.cardSends(icscf)
			w.cardSends(icscf, auts(w.edge.Expect("401"), 0))
			w.edge.Expect("403")
		})
	})
	t.Run("malformed", func(t *testing.T) {
		inWithCard(t, func(w *world) {
			w.cardSends(icscf)
			w.cardSends(icscf, strings.Replace(auts(w.edge.Expect("401"), 1), `auts="`, `auts="AAAA`, 1))
			w.edge.Expect("400")
			if n := len(w.hss.Resyncs()); n != 0 {
				t.Errorf("%d resynchronisations", n)
			}
		})
	})
}

// What the P-CSCF has authenticated is not challenged again; ip-assoc-* does not count, nor what a response comes with.
func TestIntegrityProtected(t *testing.T) {
	const base = `Authorization: Digest username="card@ims.test",realm="ims.test",nonce="",uri="sip:ims.test"`
	for mark, want := range map[string]string{
		`,response="",integrity-protected="yes"`: "200", `,response="0123",integrity-protected=tls-yes`: "200", `,response="",integrity-protected="tls-yes"`: "200",
		`,response="",integrity-protected="no"`: "401", `,response="",integrity-protected="ip-assoc-yes"`: "401", `,response="",integrity-protected="ip-assoc-pending"`: "401",
		`,response="0123",integrity-protected="yes"`: "401", `,response="0123",algorithm=AKAv1-MD5,integrity-protected="yes"`: "401", `,response="",integrity-protected="tls-no"`: "401",
	} {
		inWithCard(t, func(w *world) {
			w.cardSends(icscf, base+mark)
			w.edge.Expect(want)
			if n := len(w.hss.Vectors()); (n == 0) != (want == "200") {
				t.Errorf("%s: %d vectors", mark, n)
			}
		})
	}
	in(t, "", func(w *world) { // a P-CSCF that speaks for a card, of a user who has none
		w.edge.Send(icscf, w.registerText("alice", "c", `Authorization: Digest username="alice@ims.test",realm="ims.test",nonce="",uri="sip:ims.test",response="",integrity-protected="no"`))
		w.edge.Expect("403")
	})
}

// Whoever asks for challenges without end fills no store.
func TestAKAChallengesAreBounded(t *testing.T) {
	inWithCard(t, func(w *world) {
		size := func() int {
			rows, err := w.challenges.Get(t.Context(), "challenges", "card@ims.test")
			if err != nil {
				t.Fatal(err)
			}
			return len(rows[0].GetValue())
		}
		ask := func() *sip.Message { w.cardSends(icscf); return w.edge.Expect("401") }
		ask()
		one := size()
		for range 30 {
			ask()
		}
		if got := size(); got > 8*(one+2) {
			t.Errorf("31 challenges take %d bytes, one %d", got, one)
		}
		last := ask()
		w.cardSends(otherICSCF, answerAKA(last, w.asked(last, false)))
		w.edge.Expect("200")
		time.Sleep(41 * time.Second)
		ask()
		if got := size(); got > one+2 {
			t.Errorf("lapsed challenges stay: %d bytes, one takes %d", got, one)
		}
	})
}

// failingStore fails every call when err is set.
type failingStore struct {
	*records.Memory
	err error
}

func (f *failingStore) Get(ctx context.Context, table string, keys ...string) ([]*records.Row, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.Memory.Get(ctx, table, keys...)
}

func TestAKAWithoutItsBackEnds(t *testing.T) {
	inWithCard(t, func(w *world) {
		w.cardSends(icscf)
		challenge := w.edge.Expect("401")
		a := answerAKA(challenge, w.asked(challenge, false))
		w.broken.err = rpc.ErrUnavailable
		w.cardSends(icscf, a)
		w.edge.Expect("500")
		w.cardSends(icscf)
		w.edge.Expect("500")
		w.broken.err = nil
		w.hss.FailWith(errors.New("no diameter node"))
		w.cardSends(icscf, a)
		w.edge.Expect("504")
		w.hss.FailWith(nil)
		w.cardSends(icscf, a) // an outage has not used it up
		w.edge.Expect("200")
		synctest.Wait()
		if got := w.assigned(); got != "" {
			t.Errorf("an outage was told to the HSS as %q", got)
		}
	})
}
