package enum_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/clearwater-ims/clearwater/nodes/internal/enum"
)

// named runs BIND with a zone e164.arpa until the test ends, and returns its address. With a zone that does not load it
// answers with SERVFAIL. BIND listens only on addresses that an interface has, so it is 127.0.0.1 and a free port.
func named(t *testing.T, zone string) string {
	t.Helper()
	binary, err := exec.LookPath("named")
	if err != nil {
		if binary, err = exec.LookPath("/usr/sbin/named"); err != nil {
			t.Fatal("named is missing: install the Debian package bind9")
		}
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	addr := free(t)
	_, port, _ := net.SplitHostPort(addr)
	conf := fmt.Sprintf(`options {
	directory %q; pid-file none; session-keyfile none; listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; empty-zones-enable no; minimal-responses yes;
};
controls {};
zone "e164.arpa" { type primary; file %q; };
`, dir, port, write("e164.arpa.db", zone))
	var log bytes.Buffer
	cmd := exec.Command(binary, "-g", "-n", "1", "-U", "1", "-c", write("named.conf", conf))
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	stop := func() { _ = cmd.Process.Kill(); <-ended }
	t.Cleanup(stop)
	again, give := time.NewTicker(20*time.Millisecond), time.After(20*time.Second)
	defer again.Stop()
	for {
		m := new(dns.Msg)
		m.SetQuestion("e164.arpa.", dns.TypeSOA)
		if _, err := dns.Exchange(m, addr); err == nil {
			return addr
		}
		select {
		case <-again.C:
		case <-ended:
			t.Fatalf("named ended:\n%s", log.String())
		case <-give:
			stop()
			t.Fatalf("named does not answer:\n%s", log.String())
		}
	}
}

// free finds an address with a port that is free for UDP and TCP.
func free(t *testing.T) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().String()
		p, err := net.ListenPacket("udp", addr)
		_ = l.Close()
		if err == nil {
			_ = p.Close()
			return addr
		}
	}
	t.Fatal("no port is free")
	return ""
}

func client(t *testing.T, cfg enum.Config, deps enum.Deps) *enum.Client {
	t.Helper()
	c, err := enum.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// expect looks numbers up and compares the URIs; "" means that nothing is known.
func expect(t *testing.T, c *enum.Client, want map[string]string) {
	t.Helper()
	for number, uri := range want {
		r, err := c.Lookup(t.Context(), number)
		got := ""
		if r.Found {
			got = r.URI.String()
		}
		if err != nil || got != uri {
			t.Errorf("%s is %q, want %q; error %v", number, got, uri, err)
		}
	}
}

func manualZone(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/e164.arpa.db")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The numbers of the manual's ENUM chapter against the manual's zone, by a real server.
func TestManualAgainstBIND(t *testing.T) {
	good, failing := named(t, manualZone(t)), named(t, "this is no zone\n")
	want := map[string]string{
		"2125550270":        "sip:2125550270@10.147.226.2",
		"+12125550270":      "sip:+12125550270@10.147.226.2",
		"2125550271":        "sip:+12125550271@ngv.example.com",
		"2125550279":        "sip:+12125550279@ngv.example.com",
		"+12125550271":      "sip:+12125550271@ngv.example.com",
		"12125550271":       "sip:12125550271@10.147.226.2", // without + the second rule
		"2125550280":        "sip:+12125550280@ngv.example.com",
		"+12125550280":      "sip:+12125550280@ngv.example.com",
		"12125550280":       "sip:12125550280@10.147.226.2",
		"6505551234":        "sip:6505551234@ngv.example.com",
		"+16505551234":      "sip:6505551234@ngv.example.com",
		"16505551234":       "sip:16505551234@10.147.226.2",
		"+1-650-555.12(34)": "sip:6505551234@ngv.example.com",
		"+441632960123":     "sip:+441632960123@10.147.226.2",
		"2125550281":        "sip:2125550281@10.147.226.2",
		"21255":             "sip:21255@10.147.226.2",
		"2125550290":        "sip:2125550290@10.147.226.2",
		"":                  "", "+": "", "alice": "",
	}
	expect(t, client(t, enum.Config{Servers: []string{good}}, enum.Deps{}), want)
	t.Run("after SERVFAIL", func(t *testing.T) {
		expect(t, client(t, enum.Config{Servers: []string{failing, good}, Suffix: "E164.arpa."}, enum.Deps{}), want)
	})
	t.Run("SERVFAIL of all", func(t *testing.T) {
		r, err := client(t, enum.Config{Servers: []string{failing, failing, failing}}, enum.Deps{}).Lookup(t.Context(), "2125550270")
		if !errors.Is(err, enum.ErrUnavailable) || r.Found {
			t.Errorf("found %v, error %v", r, err)
		}
	})
	t.Run("after a dead one and a slow one", func(t *testing.T) {
		silent, err := net.ListenPacket("udp", "127.26.0.3:0") // bound, never read: the question is lost
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = silent.Close() }()
		closed := net.JoinHostPort("127.26.0.4", "9") // nobody listens: the kernel says so
		c := client(t, enum.Config{Servers: []string{silent.LocalAddr().String(), closed, good}}, enum.Deps{})
		start := time.Now()
		expect(t, c, map[string]string{"2125550270": want["2125550270"]})
		if d := time.Since(start); d < 500*time.Millisecond || d > 3*time.Second {
			t.Errorf("the silent server was waited for %s, want 0.5 to 1 s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := client(t, enum.Config{Servers: []string{silent.LocalAddr().String()}}, enum.Deps{}).Lookup(ctx, "1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller's own deadline gives %v", err)
		}
	})
	t.Run("another suffix", func(t *testing.T) {
		r, err := client(t, enum.Config{Servers: []string{good}, Suffix: "e164.arpa.ngv.example.com"}, enum.Deps{}).Lookup(t.Context(), "2125550270")
		if err == nil || r.Found { // BIND refuses what it is not asked to serve
			t.Errorf("found %v, error %v", r, err)
		}
	})
}

const rulesZone = `$TTL 60
@ IN SOA e164.arpa. admin.example.com. ( 1 60 60 60 60 )
@ IN NS e164.arpa.
@ IN A 127.0.0.1
; the lower preference first, in any order of records
1.0.0.5 IN NAPTR 1 20 "u" "E2U+sip" "!^.*$!sip:second@b.test!" .
1.0.0.5 IN NAPTR 1 10 "u" "E2U+sip" "!^.*$!sip:first@b.test!" .
1.0.0.5 IN NAPTR 2 5 "u" "E2U+sip" "!^.*$!sip:third@b.test!" .
; what is not for SIP, cannot be used or does not match is passed over
2.0.0.5 IN NAPTR 1 1 "u" "E2U+mailto" "!^.*$!mailto:a@b.test!" .
2.0.0.5 IN NAPTR 1 2 "s" "SIP+D2U" "" _sip._udp.b.test.
2.0.0.5 IN NAPTR 1 3 "u" "E2U+sip" "!^.*$!mailto:a@b.test!" .
2.0.0.5 IN NAPTR 1 5 "u" "E2U+sip" "!^6!sip:six@b.test!" .
2.0.0.5 IN NAPTR 1 7 "U" "e2u+web:http+SIP" "!^5(00)(2)$!sip:\\2\\1@b.test!" .
; number portability
3.0.0.5 IN NAPTR 1 1 "u" "E2U+pstn:tel" "!^(.*)$!tel:\\1;npdi;rn=+14085550000!" .
4.0.0.5 IN NAPTR 1 1 "u" "E2U+pstn:tel" "!(^.*$)!sip:\\1;npdi;rn=+242123@home.test!" .
; non-terminal: by domain name, by number, and the order that they end
5.0.0.5 IN NAPTR 1 1 "" "" "" elsewhere
elsewhere IN NAPTR 1 1 "u" "E2U+sip" "!^(.*)$!sip:\\1@elsewhere.test!" .
6.0.0.5 IN NAPTR 1 1 "" "E2U+sip" "!^.*$!tel:+5003!" .
7.0.0.5 IN NAPTR 1 1 "" "E2U+sip" "!^.*$!5999!" .
7.0.0.5 IN NAPTR 2 1 "u" "E2U+sip" "!^.*$!sip:never@b.test!" .
8.0.0.5 IN NAPTR 1 1 "" "E2U+sip" "!^.*$!9.0.0.5.e164.arpa!" .
9.0.0.5 IN NAPTR 1 1 "" "" "" 8.0.0.5.e164.arpa.
; five in a row are followed
1.1.0.5 IN NAPTR 1 1 "" "" "" 2.1.0.5
2.1.0.5 IN NAPTR 1 1 "" "" "" 3.1.0.5
3.1.0.5 IN NAPTR 1 1 "" "" "" 4.1.0.5
4.1.0.5 IN NAPTR 1 1 "" "" "" 5.1.0.5
5.1.0.5 IN NAPTR 1 1 "" "" "" 6.1.0.5
6.1.0.5 IN NAPTR 1 1 "u" "E2U+sip" "!^.*$!sip:end@b.test!" .
; an alias, other delimiters, the flag, an escaped delimiter
7.1.0.5 IN CNAME 1.0.0.5
8.1.0.5 IN NAPTR 1 1 "u" "E2U+sip" "/^(50)18$/sip:\\1\\/x@b.test/i" .
; wildcards are the server's: a name below one is not covered by it
*.2.0.5 IN NAPTR 1 1 "u" "E2U+sip" "!^(.*)$!sip:\\1@wild.test!" .
1.2.0.5 IN NAPTR 1 1 "u" "E2U+sip" "!^(.*)$!sip:\\1@exact.test!" .
`

func TestRulesAgainstBIND(t *testing.T) {
	zone := rulesZone
	for i := range 60 { // more than a datagram holds
		zone += fmt.Sprintf("0.3.0.5 IN NAPTR %d 1 \"u\" \"E2U+sip\" \"!^.*$!sip:a-rather-long-user-part-%d@b.test!\" .\n", 100-i, i)
	}
	good := named(t, zone)
	c := client(t, enum.Config{Servers: []string{good}}, enum.Deps{})
	expect(t, c, map[string]string{
		"5001": "sip:first@b.test", "5002": "sip:200@b.test",
		"5003": "tel:5003;npdi;rn=+14085550000", "5004": "sip:5004;npdi;rn=+242123@home.test",
		"5005": "sip:5005@elsewhere.test", "5006": "tel:+5003;npdi;rn=+14085550000", "5007": "",
		"5011": "sip:end@b.test", "5017": "sip:first@b.test", "5018": "sip:50/x@b.test",
		"5020": "sip:5020@wild.test", "5021": "sip:5021@exact.test", "50213": "", "50203": "sip:50203@wild.test",
		"5030": "sip:a-rather-long-user-part-59@b.test", "5555": "",
	})
	if _, err := c.Lookup(t.Context(), "5008"); !errors.Is(err, enum.ErrLoop) {
		t.Errorf("a circle gives %v", err)
	}
}
