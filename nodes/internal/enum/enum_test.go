package enum_test

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/clearwater-ims/clearwater/nodes/internal/enum"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// serve runs a name server in the test, for what BIND cannot be made to do.
func serve(t *testing.T, handle dns.HandlerFunc) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.26.1.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	s := &dns.Server{PacketConn: conn, Handler: handle, NotifyStartedFunc: func() { close(started) }}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = s.Shutdown(); <-done })
	return conn.LocalAddr().String()
}

func records(texts ...string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		for _, text := range texts {
			rr, err := dns.NewRR(q.Question[0].Name + " " + text)
			if err != nil {
				m.Rcode = dns.RcodeServerFailure
				break
			}
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	}
}

func TestAnswersAreKeptForTheirTTL(t *testing.T) {
	var asked atomic.Int64
	found := records(`30 IN NAPTR 1 1 "u" "E2U+sip" "!^(.*)$!sip:\\1@b.test!" .`)
	server := serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		if strings.HasPrefix(q.Question[0].Name, "9.") { // absent for 10 s
			m := new(dns.Msg)
			m.SetRcode(q, dns.RcodeNameError)
			soa, _ := dns.NewRR("e164.arpa. 3600 IN SOA a. b. 1 2 3 4 10")
			m.Ns = []dns.RR{soa}
			_ = w.WriteMsg(m)
			return
		}
		found(w, q)
	})
	now := time.Unix(1e9, 0)
	var mu sync.Mutex
	c := client(t, enum.Config{Servers: []string{server}}, enum.Deps{Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now }})
	for _, step := range []struct {
		after  time.Duration
		number string
		asked  int64
	}{{0, "15", 1}, {29 * time.Second, "15", 1}, {2 * time.Second, "15", 2}, {0, "19", 3}, {9 * time.Second, "19", 3}, {2 * time.Second, "19", 4}} {
		mu.Lock()
		now = now.Add(step.after)
		mu.Unlock()
		r, err := c.Lookup(t.Context(), step.number)
		if err != nil || r.Found != (step.number == "15") || asked.Load() != step.asked {
			t.Errorf("%+v: found %v, error %v, asked %d times", step, r, err, asked.Load())
		}
	}
	if err := c.SetConfig(enum.Config{Servers: []string{server}, Suffix: "other.test"}); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Lookup(t.Context(), "15"); err != nil || !r.Found || asked.Load() != 5 {
		t.Errorf("another suffix is answered from the cache of the first: %v, %v", r, err)
	}
}

func TestManyAskOnce(t *testing.T) {
	var asked atomic.Int64
	release := make(chan struct{})
	found := records(`30 IN NAPTR 1 1 "u" "E2U+sip" "!^(.*)$!sip:\\1@b.test!" .`)
	server := serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		<-release
		found(w, q)
	})
	c := client(t, enum.Config{Servers: []string{server}}, enum.Deps{Wait: func() time.Duration { return 10 * time.Second }})
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if r, err := c.Lookup(t.Context(), "15"); err != nil || !r.Found {
				t.Errorf("found %v, error %v", r, err)
			}
		})
	}
	close(release)
	group.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("the server was asked %d times", n)
	}
}

func TestSlowServer(t *testing.T) {
	release := make(chan struct{})
	slow := serve(t, func(w dns.ResponseWriter, q *dns.Msg) {
		<-release
		records(`30 IN NAPTR 1 1 "u" "E2U+sip" "!^.*$!sip:late@b.test!" .`)(w, q)
	})
	defer close(release)
	fast := serve(t, records(`30 IN NAPTR 1 1 "u" "E2U+sip" "!^.*$!sip:second@b.test!" .`))
	c := client(t, enum.Config{Servers: []string{slow, fast}}, enum.Deps{Wait: func() time.Duration { return 100 * time.Millisecond }})
	expect(t, c, map[string]string{"15": "sip:second@b.test"})
}

// The blog's example: preferences 100, 100 and 200 get a quarter, a quarter and half, if sharing is asked for.
func TestSharingByPreference(t *testing.T) {
	server := serve(t, records(
		`30 IN NAPTR 10 100 "u" "E2U+sip" "!^.*$!sip:1@b.test!" .`, `30 IN NAPTR 10 100 "u" "E2U+sip" "!^.*$!sip:2@b.test!" .`,
		`30 IN NAPTR 10 200 "u" "E2U+sip" "!^.*$!sip:3@b.test!" .`, `30 IN NAPTR 20 1000 "u" "E2U+sip" "!^.*$!sip:4@b.test!" .`))
	for share, want := range map[bool]map[string]int{true: {"1": 100, "2": 100, "3": 200}, false: {"1": 400}} {
		draws := 0
		c := client(t, enum.Config{Servers: []string{server}, Share: share}, enum.Deps{Rand: func(n int) int {
			if n != 400 { // the second and third draw, whose results do not show, and order 20
				return 0
			}
			draws++
			return draws - 1
		}})
		got := map[string]int{}
		for range 400 {
			r, err := c.Lookup(t.Context(), "15")
			if err != nil {
				t.Fatal(err)
			}
			got[r.URI.User]++
		}
		if len(got) != len(want) {
			t.Errorf("share %t: %v, want %v", share, got, want)
		}
		for user, n := range want {
			if got[user] != n {
				t.Errorf("share %t: %v, want %v", share, got, want)
			}
		}
	}
}

// BIND refuses such records; other servers may have them.
func TestUnusableRecordsArePassedOver(t *testing.T) {
	server := serve(t, records(
		`30 IN NAPTR 1 1 "u" "E2U+sip" "!(+^.*$)!sip:typo@b.test!" .`, `30 IN NAPTR 1 2 "u" "E2U+sip" "!^.*$!sip:\\2@b.test!" .`, `30 IN NAPTR 1 3 "u" "E2U+sip" "" .`,
		`30 IN NAPTR 1 4 "u" "E2U+sip" "" b.test.`, `30 IN NAPTR 1 5 "u" "" "!^.*$!sip:none@b.test!" .`, `30 IN NAPTR 1 6 "u" "E2U+sip" "!^.*$!sip:\\195\\188@b.test!" .`,
		`30 IN NAPTR 1 7 "u" "E2U+sip" "!^.*$!sip:<@b.test!" .`, `30 IN NAPTR 1 8 "" "" "" .`, `30 IN NAPTR 1 9 "u" "E2U+pstn:sip" "!^.*$!sip:good@b.test!" .`))
	expect(t, client(t, enum.Config{Servers: []string{server}}, enum.Deps{}), map[string]string{"15": "sip:good@b.test"})
	long := serve(t, records(`30 IN NAPTR 1 1 "" "" "!^(.*)$!a..b!" .`))
	expect(t, client(t, enum.Config{Servers: []string{long}}, enum.Deps{}), map[string]string{"15": ""})
}

// The document of the manual's ENUM chapter and its numbers.
func TestManualDocument(t *testing.T) {
	c := client(t, enum.Config{}, enum.Deps{})
	expect(t, c, map[string]string{"2125550270": ""})
	if err := c.SetFile(manualDocument); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"2125550270": "sip:2125550270@10.147.226.2", "2125550271": "sip:+12125550271@ngv.example.com", "+12125550271": "sip:+12125550271@ngv.example.com",
		"+12125550280": "sip:+12125550280@ngv.example.com", "650-555-1234": "sip:6505551234@ngv.example.com", "+16505551234": "sip:6505551234@ngv.example.com",
		"+441632960123": "sip:+441632960123@10.147.226.2",
	}
	expect(t, c, want)
	for _, bad := range []struct{ text, word string }{
		{"{", "enum.json"}, {"{}", "number_blocks is missing"},
		{`{"number_blocks":[{"name":"good","prefix":"","regex":"!a!b!"},{"name":"two","regex":"!a!b!"}]}`, `entry 2 ("two"): prefix is missing`},
		{`{"number_blocks":[{"name":"x","prefix":"abc","regex":"!a!b!"}]}`, `prefix "abc"`},
		{`{"number_blocks":[{"name":"x","prefix":"1","regex":"!(+^.*$)!sip:a@b!"}]}`, `entry 1 ("x"): regex`},
		{`{"number_blocks":[{"name":"x","prefix":"1","regex":"!(.*)!sip:\\2@b!"}]}`, `\2 refers to a part`},
		{`{"number_blocks":[{"name":"x","prefix":"1","regex":"!.*!sip:a@b"}]}`, "no third delimiter"},
		{`{"number_blocks":[{"name":"x","prefix":"1"}]}`, "it is empty"},
	} {
		if err := c.SetFile(bad.text); err == nil || !strings.Contains(err.Error(), bad.word) {
			t.Errorf("%s: %v, want a word of %s", bad.text, err, bad.word)
		}
	}
	expect(t, c, want) // a document that is refused leaves the old one
	if err := c.SetFile(`{"number_blocks":[{"name":"l","prefix":"12","regex":"!^123$!sip:a@b.test!"},{"name":"s","prefix":"","regex":"!^.*$!sip:c@d.test!"},{"name":"m","prefix":"1-2","regex":"!^124$!sip:e@f.test!"}]}`); err != nil {
		t.Fatal(err)
	}
	expect(t, c, map[string]string{"123": "sip:a@b.test", "124": "sip:e@f.test", "125": "", "13": "sip:c@d.test"})
	if err := c.SetFile(""); err != nil {
		t.Fatal(err)
	}
	expect(t, c, map[string]string{"123": ""})
}

func TestConfigRefused(t *testing.T) {
	for _, servers := range [][]string{{"a"}, {"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"}, {"127.0.0.1:x"}} {
		if _, err := enum.New(enum.Config{Servers: servers}, enum.Deps{}); err == nil || !strings.Contains(err.Error(), "enum_server") {
			t.Errorf("%v: %v", servers, err)
		}
	}
}

func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		uri                                 string
		lax, userPhone, globalOnly, neither bool
	}{
		{"tel:+15551234", true, true, true, true},
		{"tel:5551234;phone-context=+1", true, true, false, false},
		{"tel:+1-555-1234", true, true, true, true},
		{"tel:911#", false, false, false, false},
		{"sip:+15551234@home.test", true, false, true, false},
		{"sip:5551234@home.test", true, false, false, false},
		{"sip:+15551234@home.test;user=phone", true, true, true, true},
		{"sip:5551234@home.test;user=phone", true, true, false, false},
		{"sip:+15551234;npdi;rn=+1555@home.test", true, false, true, false},
		{"sip:alice@home.test", false, false, false, false},
		{"sip:alice@home.test;user=phone", false, false, false, false},
		{"sip:home.test", false, false, false, false},
		{"urn:service:sos", false, false, false, false},
	} {
		u, err := sip.ParseURI(c.uri)
		if err != nil {
			t.Fatal(err)
		}
		for policy, want := range map[enum.Policy]bool{{}: c.lax, {UserPhone: true}: c.userPhone, {GlobalOnly: true}: c.globalOnly, {UserPhone: true, GlobalOnly: true}: c.neither} {
			if got := policy.Wants(u); got != want {
				t.Errorf("%s with %+v: %t", c.uri, policy, got)
			}
		}
	}
}

func TestPortability(t *testing.T) {
	parse := func(text string) sip.URI {
		u, err := sip.ParseURI(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for text, want := range map[string]struct {
		rn   string
		npdi bool
	}{
		"tel:+1555":                          {"", false},
		"tel:+1555;npdi;rn=+1408":            {"+1408", true},
		"sip:+1555;npdi;rn=+1408@h.test":     {"+1408", true},
		"sip:+1555@h.test;npdi;rn=+1408":     {"+1408", true},
		"sip:+1555;npdi@h.test;user=phone":   {"", true},
		"sip:alice@h.test":                   {"", false},
		"sip:+1555;RN=+1408@h.test;rn=+1409": {"+1408", false},
	} {
		if rn, npdi := enum.Portability(parse(text)); rn != want.rn || npdi != want.npdi {
			t.Errorf("%s: %q %t", text, rn, npdi)
		}
	}
	c := client(t, enum.Config{}, enum.Deps{})
	if err := c.SetFile(`{"number_blocks":[{"name":"np","prefix":"1","regex":"!^(.*)$!tel:\\1;npdi;rn=+9!"},{"name":"plain","prefix":"2","regex":"!^(.*)$!sip:\\1@b.test!"},{"name":"self","prefix":"3","regex":"!^(.*)$!tel:\\1!"}]}`); err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct{ uri, plain, override string }{
		{"tel:15", "tel:15;npdi;rn=+9", "tel:15;npdi;rn=+9"},
		{"tel:15;npdi", "", "tel:15;npdi;rn=+9"}, // looked up before: the network's own data stand
		{"tel:15;npdi;rn=+8", "", "tel:15;npdi;rn=+9"},
		{"tel:15;rn=+8", "tel:15;npdi;rn=+9", "tel:15;npdi;rn=+9"},
		{"tel:25;npdi;rn=+8", "sip:25@b.test", "sip:25@b.test"}, // npdi does not stop the look-up
		{"tel:35", "", ""}, {"tel:45", "", ""}, {"sip:alice@b.test", "", ""},
	} {
		for override, want := range map[bool]string{false: s.plain, true: s.override} {
			if err := c.SetConfig(enum.Config{Policy: enum.Policy{OverrideNPDI: override}}); err != nil {
				t.Fatal(err)
			}
			u, ok, err := c.Translate(t.Context(), parse(s.uri))
			if err != nil || ok != (want != "") || ok && u.String() != want {
				t.Errorf("%s with override_npdi %t: %s %t %v, want %q", s.uri, override, u, ok, err, want)
			}
		}
	}
}

const manualDocument = `{
    "number_blocks" : [
        { "name" : "Demo system number 2125550270", "prefix" : "2125550270", "regex" : "!(^.*$)!sip:\\1@10.147.226.2!" },
        { "name" : "Clearwater external numbers 2125550271-9", "prefix" : "212555027", "regex" : "!(^.*$)!sip:+1\\1@ngv.example.com!" },
        { "name" : "Clearwater external numbers +12125550271-9", "prefix" : "+1212555027", "regex" : "!(^.*$)!sip:\\1@ngv.example.com!" },
        { "name" : "Clearwater external number 2125550280", "prefix" : "2125550280", "regex" : "!(^.*$)!sip:+1\\1@ngv.example.com!" },
        { "name" : "Clearwater external number +12125550280", "prefix" : "+12125550280", "regex" : "!(^.*$)!sip:\\1@ngv.example.com!" },
        { "name" : "Clearwater internal numbers", "prefix" : "650555", "regex" : "!(^.*$)!sip:\\1@ngv.example.com!" },
        { "name" : "Clearwater internal numbers dialled with +1 prefix", "prefix" : "+1650555", "regex" : "!^\\+1(.*$)!sip:\\1@ngv.example.com!" },
        { "name" : "NANP => SIP trunk", "prefix" : "", "regex" : "!(^.*$)!sip:\\1@10.147.226.2!" }
    ]
}`
