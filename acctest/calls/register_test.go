package calls

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

// bindings is the management view of a phone's registration.
func (p *phone) bindings() (int, string) {
	p.t.Helper()
	return get(p.t, fmt.Sprintf("http://%s:%d/impu/%s/bindings", shared.Address("router-1"), config.PortRouterManagement, url.PathEscape(p.uri())))
}

// state is the registration state that the HSS side shows.
func (p *phone) state() string {
	p.t.Helper()
	status, body := get(p.t, fmt.Sprintf("http://%s:%d/impu/%s/reg-data", shared.Address("diameter-1"), config.PortHSSManagement, url.PathEscape(p.uri())))
	if status == 404 {
		return "NOT_REGISTERED"
	}
	_, after, _ := strings.Cut(body, "<RegistrationState>")
	state, _, _ := strings.Cut(after, "<")
	return state
}

func TestRegisterUDP(t *testing.T) {
	p := newPhone(t, "u1")
	p.register()
	if status, body := p.bindings(); status != 200 || !strings.Contains(body, p.Instance) {
		t.Errorf("bindings: %d %s", status, body)
	}
	if got := p.state(); got != "REGISTERED" {
		t.Errorf("the HSS shows %q", got)
	}
}

func TestRegisterTCP(t *testing.T) { newPhone(t, "t1").register() }

func TestRegisterWrongPassword(t *testing.T) {
	p := newPhone(t, "u1")
	p.Password = "wrong"
	p.script("register-refused").Must(t)
	if status, _ := p.bindings(); status != 404 {
		t.Errorf("a wrong password left bindings: %d", status)
	}
}

func TestRegisterUnknownUser(t *testing.T) {
	p := newPhone(t, "u1")
	p.Name = "nobody"
	p.script("register-unknown").Must(t)
}

func TestReRegister(t *testing.T) {
	p := newPhone(t, "u1")
	p.register()
	p.register() // the same instance: one binding
	if _, body := p.bindings(); strings.Count(body, `"uri"`) != 1 {
		t.Errorf("after re-registration: %s", body)
	}
	p.another().register()
	if _, body := p.bindings(); strings.Count(body, `"uri"`) != 2 {
		t.Errorf("with a second phone: %s", body)
	}
}

func TestFetchBindings(t *testing.T) {
	p := newPhone(t, "u1")
	p.register()
	if r := p.script("fetch").Must(t); !strings.Contains(r.Log, p.Instance) {
		t.Errorf("a fetch shows %q", r.Log)
	}
}

func TestDeregister(t *testing.T) {
	p := newPhone(t, "u1")
	p.register()
	p.another().register()
	p.script("deregister").Must(t)
	if status, body := p.bindings(); status != 404 {
		t.Errorf("after Contact: * %d %s", status, body)
	}
	within(t, 5*time.Second, "the HSS hears of it", func() bool { return p.state() == "NOT_REGISTERED" })
}

func TestExpiryTellsTheHSS(t *testing.T) {
	told := func() float64 {
		return counter(t, config.HealthPort(config.Diameter), []string{"diameter-1"}, `ims_hss_assignments_total\{reqtype="dereg-timeout"\}`)
	}
	p := newPhone(t, "u1")
	before := told()
	p.Expires = 2
	p.register()
	if got := p.state(); got != "REGISTERED" {
		t.Fatalf("the HSS shows %q", got)
	}
	within(t, 15*time.Second, "the binding lapses and the HSS is told", func() bool {
		status, _ := p.bindings()
		return status == 404 && told() > before && p.state() == "NOT_REGISTERED"
	})
}

// A registration with a good answer costs one operation at the diameter role and one swap at the store.
func TestRegistrationCost(t *testing.T) {
	operations := func() float64 {
		return counter(t, config.HealthPort(config.Diameter), []string{"diameter-1"}, `ims_diameter_operations_total\{[^}]*\}`)
	}
	swaps := func() float64 {
		return counter(t, config.HealthPort(config.Store), []string{"store-1"}, `ims_store_swaps_total\{table="registrations?"\}`)
	}
	p := newPhone(t, "u1")
	p.register()
	o, s := operations(), swaps()
	const times = 5
	for range times {
		p.register() // each is a challenge (one operation) and an answer (one operation, one swap)
	}
	if got := operations() - o; got != 2*times {
		t.Errorf("%d registrations with their challenges cost %v operations at the diameter role, want %d", times, got, 2*times)
	}
	if got := swaps() - s; got != times {
		t.Errorf("%d registrations cost %v swaps at the store, want %d", times, got, times)
	}
}
