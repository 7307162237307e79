package bgcf_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/bgcf"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/network"
)

// table translates by a map; "down" fails.
type table map[string]string

func (n table) Translate(_ context.Context, u sip.URI) (sip.URI, bool, error) {
	text, ok := n[u.String()]
	if !ok {
		return u, false, nil
	}
	if text == "down" {
		return u, false, errors.New("no ENUM server answered")
	}
	out, err := sip.ParseURI(text)
	return out, err == nil, err
}

// On receipt a number is looked up whether or not it has portability data, and a routing number goes before it (B05).
func TestLookUpOnReceipt(t *testing.T) {
	routes, err := bgcf.Parse(`{"routes":[{"name":"d","domain":"peer.test","route":["sip:peering.test;lr"]},{"name":"n","number":"+44","route":["sip:gateway.test;lr"]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	names := network.New(&config.Options{HomeDomain: "ims.test", RouterHostname: "router.ims.test", Zone: "ims.test", Site: "site1", BGCFPort: 5053})
	numbers := table{
		"tel:+1": "sip:+1@peer.test", "tel:+2": "tel:+2;npdi;rn=+447", "tel:+3;rn=+445;npdi": "sip:+3@peer.test", "tel:+447": "down", "tel:+99": "down",
		"tel:+5": "sip:+5@ims.test;npdi;rn=+446",
	}
	f := bgcf.New(bgcf.Deps{Routes: func() *bgcf.Routes { return routes }, Names: func() *network.Names { return names }, Numbers: numbers, Log: slog.New(slog.DiscardHandler)})
	for to, want := range map[string]struct {
		status     int
		uri, route string
	}{
		"tel:+1":              {0, "sip:+1@peer.test", "<sip:peering.test;lr>"},
		"tel:+2":              {0, "tel:+2;npdi;rn=+447", "<sip:gateway.test;lr>"},
		"tel:+3;rn=+445;npdi": {0, "sip:+3@peer.test", "<sip:peering.test;lr>"},
		"tel:+4;rn=+445;npdi": {0, "tel:+4;rn=+445;npdi", "<sip:gateway.test;lr>"},
		"tel:+5":              {0, "sip:+5@ims.test;npdi;rn=+446", "<sip:gateway.test;lr>"},
		"tel:+447":            {0, "tel:+447", "<sip:gateway.test;lr>"}, // a route by number needs no ENUM server
		"tel:+99":             {504, "", ""},
		"tel:+98":             {404, "", ""},
	} {
		m, err := sip.Parse([]byte("INVITE " + to + " SIP/2.0\r\nVia: SIP/2.0/TCP 10.1.0.2;branch=z9hG4bK1\r\nFrom: <sip:a@ims.test>;tag=a\r\nTo: <" + to + ">\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		d := f.Serve().Initial(t.Context(), &proxy.Request{Msg: m})
		if want.status != 0 {
			if got := d.Message(); got == nil || got.Status != want.status {
				t.Errorf("%s: %v, want %d", to, got, want.status)
			}
			continue
		}
		if len(d.Targets()) != 1 {
			t.Errorf("%s: answered %v", to, d.Message())
			continue
		}
		if got := d.Targets()[0].Msg; got.URI != want.uri || got.Get(sip.Route) != want.route {
			t.Errorf("%s leaves for %s by %s, want %s by %s", to, got.URI, got.Get(sip.Route), want.uri, want.route)
		}
	}
}
