package calls

import (
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/acctest/sipp"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// newCardPhone provisions a subscriber with a card (the operator's OP and the AMF of TS 35.208 test set 1) and no password.
func newCardPhone(t *testing.T, transport, k string) *phone {
	t.Helper()
	p := newPhone(t, transport)
	if err := shared.Provisioning().DeleteSubscriber(t.Context(), p.uri(), ""); err != nil {
		t.Fatal(err)
	}
	p.Password = ""
	p.Card = sipp.Card{K: k, OP: "cdc202d5123e20f62b6d676ac72cb318", AMF: "b9b9"}
	err := shared.Provisioning().CreateSubscriber(t.Context(), provisioning.Subscriber{
		PublicIDs: []string{p.uri()}, PrivateID: p.Name + "@" + shared.Domain, Realm: shared.Domain, AKA: provisioning.AKA{K: p.Card.K, OP: p.Card.OP, AMF: p.Card.AMF},
	})
	if err != nil {
		t.Fatalf("provisioning %s: %v", p.uri(), err)
	}
	return p
}

// cardK is the key of test set 6. That of set 1 has an octet 5b, a bracket, which SIPp takes for the begin of a keyword.
const cardK = "6c38a116ac280c454f59332ee35c8c4f"

// registerAKA registers and tells how many vectors that took. SIPp 3.6.1 ends RES at its first octet 0, which one in 32 has:
// then its response is wrong, and it begins again. With five in a row that is not the reason.
func (p *phone) registerAKA() (vectors int) {
	p.t.Helper()
	for vectors = 1; vectors < 5; vectors++ {
		switch r := p.script("register-aka").Do(p.t); {
		case r.Err == nil:
			return vectors
		case !strings.Contains(r.Errors, "wrong credentials"):
			p.t.Fatalf("SIPp: %v\n%s", r.Err, r.Errors)
		}
	}
	p.script("register-aka").Must(p.t)
	return vectors
}

// SIPp is an independent card: it checks the network's MAC and computes RES itself.
func TestRegisterAKA(t *testing.T) {
	for _, transport := range []string{"u1", "t1"} {
		p := newCardPhone(t, transport, cardK)
		for range 3 { // every registration is another vector
			p.registerAKA()
		}
		if status, body := p.bindings(); status != 200 || strings.Count(body, `"uri"`) != 1 {
			t.Errorf("bindings: %d %s", status, body)
		}
		if got := p.state(); got != "REGISTERED" {
			t.Errorf("the HSS shows %q", got)
		}
	}
}

// A card with another key does not believe the network and does not get in.
func TestRegisterAKAWrongKey(t *testing.T) {
	p := newCardPhone(t, "u1", cardK)
	p.Card.K = strings.Repeat("1", 32)
	if r := p.script("register-aka").Do(t); r.Err == nil {
		t.Error("a card with another key has registered")
	}
	if status, _ := p.bindings(); status != 404 {
		t.Errorf("a wrong key left bindings: %d", status)
	}
}

// What AKA costs: the challenge is kept with one swap, taken with another, and no vector is made for the answer.
func TestRegistrationCostAKA(t *testing.T) {
	swaps := func(table string) float64 {
		return counter(t, config.HealthPort(config.Store), []string{"store-1"}, `ims_store_swaps_total\{table="`+table+`"\}`)
	}
	p := newCardPhone(t, "u1", cardK)
	p.registerAKA()
	before := map[string]float64{}
	for _, table := range []string{"registrations?", "subscribers", "challenges"} {
		before[table] = swaps(table)
	}
	const times = 3
	vectors := 0
	for range times {
		vectors += p.registerAKA()
	}
	for table, n := range map[string]int{"registrations?": times, "subscribers": vectors, "challenges": 2 * vectors} {
		if got := swaps(table) - before[table]; got != float64(n) {
			t.Errorf("%d registrations with %d vectors cost %v swaps of %s, want %d", times, vectors, got, table, n)
		}
	}
}
