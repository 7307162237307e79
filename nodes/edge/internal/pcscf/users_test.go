package pcscf

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// The indexes of users must agree with a plain list of what is registered, whatever happens.
func TestUsersAgreeWithAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var us users
		us.init()
		now := time.Unix(1000, 0)
		type row struct {
			flow    uint64
			user    string
			contact string
			until   time.Time
		}
		var list []row
		remove := func(gone func(row) bool) {
			kept := list[:0]
			for _, r := range list {
				if !gone(r) {
					kept = append(kept, r)
				}
			}
			list = kept
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			flow := rapid.Uint64Range(1, 2).Draw(t, "flow")
			name := fmt.Sprint("sip:u", rapid.IntRange(1, 3).Draw(t, "user"))
			contact := fmt.Sprint("c", rapid.IntRange(1, 2).Draw(t, "contact"))
			id := transport.ID{Serial: flow}
			switch rapid.SampledFrom([]string{"bind", "bind", "unbind", "all", "drop", "sweep", "time"}).Draw(t, "step") {
			case "bind":
				until := now.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "life")) * time.Second)
				names := []string{name, name + "-alias"}
				us.bind(id, &user{identities: names, canonical: names}, contact, until, func() {})
				remove(func(r row) bool { return r.flow == flow && r.user == name && r.contact == contact })
				list = append(list, row{flow, name, contact, until})
			case "unbind":
				us.unbind(id, name+"-alias", contact)
				remove(func(r row) bool { return r.flow == flow && r.user == name && r.contact == contact })
			case "all":
				us.unbind(id, name, "")
				remove(func(r row) bool { return r.flow == flow && r.user == name })
			case "drop":
				us.drop(id)
				remove(func(r row) bool { return r.flow == flow })
			case "sweep":
				us.sweep(now)
			case "time":
				now = now.Add(time.Duration(rapid.IntRange(1, 10).Draw(t, "seconds")) * time.Second)
			}
			for flow := uint64(1); flow <= 2; flow++ {
				anybody := false
				for i := 1; i <= 3; i++ {
					name := fmt.Sprint("sip:u", i)
					want := false
					for _, r := range list {
						want = want || (r.flow == flow && r.user == name && now.Before(r.until))
					}
					anybody = anybody || want
					for _, identity := range []string{name, name + "-alias"} {
						if u, got := us.with(transport.ID{Serial: flow}, now, identity); (u != nil) != want || (want && got != identity) {
							t.Fatalf("flow %d, %s: found %v %q, want %v", flow, identity, u != nil, got, want)
						}
					}
				}
				if u, _ := us.any(transport.ID{Serial: flow}, now, "sip:stranger"); (u != nil) != anybody {
					t.Fatalf("flow %d: somebody %v, want %v", flow, u != nil, anybody)
				}
			}
		}
		us.sweep(now)
		left := map[string]bool{}
		for _, r := range list {
			if now.Before(r.until) {
				left[fmt.Sprint(r.flow, r.user)] = true
			}
		}
		if us.held() != int64(len(left)) {
			t.Fatalf("%d held, want %d", us.held(), len(left))
		}
	})
}

// BenchmarkMemoryPerUser reports the heap that one phone on a flow of its own takes.
func BenchmarkMemoryPerUser(b *testing.B) {
	const n = 100_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		var us users
		us.init()
		for i := range n {
			id := transport.ID{Local: someFlow.Local, Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 5060)}
			u := &user{service: []string{"<sip:scscf.router.ims.test;transport=TCP;lr;orig>"}}
			u.add(fmt.Sprint("sip:", 6505550000+i, "@ims.test"), fmt.Sprint("sip:", 6505550000+i, "@ims.test"))
			us.bind(id, u, fmt.Sprint("sip:", 6505550000+i, "@10.0.0.1:5060"), time.Unix(1e9, 0), func() {})
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/user")
		runtime.KeepAlive(&us)
	}
}
