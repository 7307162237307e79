package master

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/milenage"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
)

const impi, impu = "card@example.com", "sip:card@example.com"

// simCard is the other side (TS 33.102 C.2): it takes a number that is higher than the last one, not by more than delta.
type simCard struct {
	*milenage.Cipher
	t   *testing.T
	seq uint64 // highest taken
}

func key(first byte) []byte {
	k := make([]byte, milenage.KeySize)
	for i := range k {
		k[i] = first + byte(i)
	}
	return k
}

// newCard provisions one subscriber with a card at a store and returns masters that share the store.
func newCard(t *testing.T, digest bool) (card *simCard, db *subscribers.DB, masters [2]*Master) {
	t.Helper()
	ctx, rows := t.Context(), records.NewMemory()
	db = subscribers.New(rows)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	set, err := db.CreateSet(ctx)
	must(err)
	profile, err := db.CreateProfile(ctx, set)
	must(err)
	must(db.PutPublic(ctx, set, profile, &subscribers.Public{Key: impu, Uri: impu}))
	must(db.PutPrivate(ctx, impi, subscribers.Credentials{Realm: "example.com", K: key(1), OPc: key(50), AMF: []byte{0x80, 0}}))
	if digest {
		must(db.PutPrivate(ctx, impi, subscribers.Credentials{Realm: "example.com", DigestHA1: strings.Repeat("0", 32)}))
	}
	must(db.Link(ctx, impi, set))
	c, err := milenage.New(key(1), key(50))
	must(err)
	for i := range masters {
		masters[i] = New(subscribers.New(rows), &bindings{}, func() Settings { return Settings{ServerName: "sip:s"} }, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	}
	return &simCard{Cipher: c, t: t}, db, masters
}

func ask(t *testing.T, m *Master, scheme string, resync []byte) *hss.AuthorizeResponse {
	t.Helper()
	resp, err := m.Authorize(t.Context(), &hss.AuthorizeRequest{Impi: impi, Impu: impu, Scheme: scheme, Resync: resync, WantVector: true})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// read checks a vector as the card and whoever knows XRES would, and returns what the card is asked.
func (c *simCard) read(v *hss.Aka) (rand [16]byte, sqn uint64) {
	c.t.Helper()
	raw, err := base64.StdEncoding.DecodeString(v.GetChallenge())
	if err != nil || len(raw) != milenage.RANDSize+milenage.AUTNSize {
		c.t.Fatalf("challenge %q: %v", v.GetChallenge(), err)
	}
	rand = [16]byte(raw)
	ak := c.F5(rand)
	for i, b := range raw[16:22] {
		sqn = sqn<<8 | uint64(b^ak[i])
	}
	if mac, _ := c.F1(rand, sqn, [2]byte(raw[22:24])); string(mac[:]) != string(raw[24:]) {
		c.t.Errorf("the MAC of AUTN is wrong")
	}
	res, ck, ik := c.F2(rand), c.F3(rand), c.F4(rand)
	for got, want := range map[string][]byte{v.GetResponse(): res[:], v.GetCryptKey(): ck[:], v.GetIntegrityKey(): ik[:]} {
		if got != hex.EncodeToString(want) {
			c.t.Errorf("%s in the vector, the card has %x", got, want)
		}
	}
	return rand, sqn
}

func (c *simCard) takes(sqn uint64) bool {
	seq := sqn >> indexBits
	if seq <= c.seq || seq-c.seq > delta {
		return false
	}
	c.seq = seq
	return true
}

func TestSchemes(t *testing.T) {
	for _, tc := range []struct {
		scheme string
		digest bool
		want   string // digest, aka1, aka2 or a result
	}{
		{"", true, "digest"}, {"digest", true, "digest"}, {"aka", true, "aka1"}, {"aka2", true, "aka2"},
		{"", false, "aka1"}, {"digest", false, "RESULT_UNSUPPORTED_SCHEME"}, {"aka", false, "aka1"}, {"aka2", false, "aka2"},
		{"akav9", true, "RESULT_UNSUPPORTED_SCHEME"}, {"basic", false, "RESULT_UNSUPPORTED_SCHEME"},
	} {
		card, _, masters := newCard(t, tc.digest)
		resp := ask(t, masters[0], tc.scheme, nil)
		got := resp.GetResult().String()
		switch {
		case resp.GetResult() != hss.Result_RESULT_OK:
		case resp.GetDigest() != nil:
			got = "digest"
		case resp.GetAka() != nil:
			card.read(resp.GetAka())
			got = fmt.Sprint("aka", resp.GetAka().GetVersion())
		}
		if got != tc.want {
			t.Errorf("scheme %q, digest %v: %s (%s), want %s", tc.scheme, tc.digest, got, resp.GetDetail(), tc.want)
		}
	}
}

// Two nodes make vectors of one card at once: no number comes twice, none goes back for whoever asks in turn, and IND
// goes round.
func TestSequenceNumbersAcrossNodes(t *testing.T) {
	card, db, masters := newCard(t, false)
	const each = 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[uint64]bool{}
	for _, m := range masters {
		wg.Go(func() {
			last := uint64(0)
			for range each {
				resp := ask(t, m, "", nil)
				if resp.GetResult() != hss.Result_RESULT_OK {
					t.Error(resp)
					return
				}
				_, sqn := card.read(resp.GetAka())
				if sqn>>indexBits <= last>>indexBits {
					t.Errorf("%x after %x", sqn, last)
				}
				last = sqn
				mu.Lock()
				if seen[sqn] {
					t.Errorf("%x came twice", sqn)
				}
				seen[sqn] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	// A new key does not begin again.
	if err := db.PutPrivate(t.Context(), impi, subscribers.Credentials{Realm: "example.com", K: key(1), OPc: key(50), AMF: []byte{0, 0}}); err != nil {
		t.Fatal(err)
	}
	_, sqn := card.read(ask(t, masters[0], "aka", nil).GetAka())
	if sqn>>indexBits != 2*each+1 || sqn&(1<<indexBits-1) != (2*each+1)%(1<<indexBits) {
		t.Errorf("SEQ %d, IND %d after %d vectors", sqn>>indexBits, sqn&(1<<indexBits-1), 2*each)
	}
}

func TestResynchronisation(t *testing.T) {
	for name, at := range map[string]uint64{"card far ahead": 1 << 40, "card a little ahead": 7, "card behind": 1, "card far behind": 0} {
		t.Run(name, func(t *testing.T) {
			card, db, masters := newCard(t, false)
			ours := uint64(3)
			if at == 0 {
				ours = delta + 5
			}
			if _, err := db.Advance(t.Context(), impi, func(*subscribers.Aka) (uint64, error) { return ours << indexBits, nil }); err != nil {
				t.Fatal(err)
			}
			card.seq = at
			rand, _ := card.read(ask(t, masters[0], "aka", nil).GetAka())
			auts := card.AUTS(rand, card.seq<<indexBits)
			resync := append(rand[:], auts[:]...)
			_, sqn := card.read(ask(t, masters[1], "aka", resync).GetAka())
			if !card.takes(sqn) {
				t.Errorf("after the resynchronisation the card at %x is given %x", at, sqn>>indexBits)
			}
			if at == 1 && sqn>>indexBits != ours+2 {
				t.Errorf("the number went to %x without need", sqn>>indexBits)
			}
		})
	}
}

func TestForgedResynchronisation(t *testing.T) {
	card, _, masters := newCard(t, false)
	rand, before := card.read(ask(t, masters[0], "aka", nil).GetAka())
	auts := card.AUTS(rand, 1<<40)
	good := append(rand[:], auts[:]...)
	flipped := append([]byte{}, good...)
	flipped[len(flipped)-1] ^= 1
	for name, forged := range map[string][]byte{"wrong MAC": flipped, "short": good[:29], "long": append(append([]byte{}, good...), 0), "one octet": {1}} {
		if resp := ask(t, masters[0], "aka", forged); resp.GetResult() != hss.Result_RESULT_RESYNC_REFUSED || resp.GetAka() != nil || resp.GetDetail() == "" {
			t.Errorf("%s: %v", name, resp)
		}
	}
	if _, sqn := card.read(ask(t, masters[0], "aka", nil).GetAka()); sqn>>indexBits != before>>indexBits+1 {
		t.Errorf("a forged AUTS moved the number from %x to %x", before>>indexBits, sqn>>indexBits)
	}
}

func TestNextSQN(t *testing.T) {
	if _, err := nextSQN(milenage.MaxSQN); err == nil {
		t.Error("the numbers begin again")
	}
	if next, err := nextSQN(31); err != nil || next != 32 {
		t.Errorf("%d, %v", next, err)
	}
}

// A client that hashes another spelling of its name is known where the password itself is.
func TestDigestOfAnotherSpelling(t *testing.T) {
	ctx := t.Context()
	_, db, masters := newCard(t, true)
	ask := func() string {
		t.Helper()
		resp, err := masters[0].Authorize(ctx, &hss.AuthorizeRequest{Impi: impi, Impu: impu, Scheme: "digest", WantVector: true, DigestUser: "card%40example.com"})
		if err != nil || resp.GetResult() != hss.Result_RESULT_OK {
			t.Fatal(resp, err)
		}
		return resp.GetDigest().GetHa1()
	}
	if got := ask(); got != strings.Repeat("0", 32) {
		t.Errorf("%s, not the only one that is known", got)
	}
	if err := db.PutPrivate(ctx, impi, subscribers.Credentials{Realm: "example.com", Plaintext: "p", DigestHA1: strings.Repeat("0", 32)}); err != nil {
		t.Fatal(err)
	}
	if got := ask(); got != provisioning.HA1("card%40example.com", "example.com", "p") {
		t.Error(got)
	}
}
