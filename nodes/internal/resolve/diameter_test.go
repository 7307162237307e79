package resolve

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestDiameterPeersOfARealm(t *testing.T) {
	z := startZone(t,
		// NAPTR: the lower order wins; SCTP and other applications are passed over
		`naptr.test. 60 IN NAPTR 10 10 "s" "AAA+D2S" "" _diameter._sctp.naptr.test.`,
		`naptr.test. 60 IN NAPTR 20 10 "s" "AAA+D2T" "" _dia.naptr.test.`,
		`naptr.test. 60 IN NAPTR 30 10 "s" "AAA+D2T" "" _worse.naptr.test.`,
		`_dia.naptr.test. 60 IN SRV 2 0 3869 b.test.`, `_dia.naptr.test. 60 IN SRV 1 0 3868 a.test.`,
		`_worse.naptr.test. 60 IN SRV 1 0 3868 c.test.`,
		// RFC 6408: by application, and over TLS
		`app.test. 60 IN NAPTR 10 10 "s" "aaa+ap4:diameter.tcp" "" _worse.naptr.test.`,
		`app.test. 60 IN NAPTR 20 10 "s" "aaa+ap16777216:diameter.tcp" "" _dia.naptr.test.`,
		`tls.test. 60 IN NAPTR 10 10 "a" "aaa:diameter.tls.tcp" "" a.test.`,
		`dead.test. 60 IN NAPTR 10 10 "s" "AAA+D2T" "" _gone.test.`,
		`dead.test. 60 IN NAPTR 20 10 "a" "AAA+D2T" "" c.test.`,
		`_diameter._tcp.srv.test. 60 IN SRV 1 0 4000 a.test.`,
		`_diameters._tcp.srvs.test. 60 IN SRV 1 0 5658 a.test.`,
		`a.test. 60 IN A 192.0.2.1`, `b.test. 60 IN A 192.0.2.2`, `c.test. 60 IN A 192.0.2.3`,
	)
	r, _ := newResolver(t, Config{Servers: []string{z.addr}})
	for realm, want := range map[string]string{
		"naptr.test": "tcp:192.0.2.1:3868 tcp:192.0.2.2:3869",
		"app.test":   "tcp:192.0.2.1:3868 tcp:192.0.2.2:3869",
		"tls.test":   "tls:192.0.2.1:5658",
		"dead.test":  "tcp:192.0.2.3:3870",
		"srv.test":   "tcp:192.0.2.1:4000",
		"srvs.test":  "tls:192.0.2.1:5658",
		"c.test":     "tcp:192.0.2.3:3870",
		"192.0.2.9":  "tcp:192.0.2.9:3870",
		"2001:db8::": "tcp:[2001:db8::]:3870",
	} {
		hops, err := r.Diameter(t.Context(), realm, 3870, 16777216)
		if err != nil {
			t.Errorf("%s: %v", realm, err)
			continue
		}
		var got []string
		for _, h := range hops {
			got = append(got, h.String())
			if (h.Transport == TLS) != (h.Name == realm) {
				t.Errorf("%s: certificate for %q", realm, h.Name)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", realm, got, want)
		}
	}
	if hops, err := r.Diameter(t.Context(), "nothing.test", 3868, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, %v", hops, err)
	}
	if hops, err := r.Diameter(t.Context(), "::1", 3868, 1); err != nil || hops[0].Addr != netip.MustParseAddrPort("[::1]:3868") {
		t.Errorf("got %v, %v", hops, err)
	}
}
