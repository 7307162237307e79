package network

import (
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

func names(t *testing.T, shared string) *Names {
	t.Helper()
	o, _, err := config.Parse(
		config.File{Name: config.LocalFile, Text: "local_ip=10.1.0.1\npublic_ip=1.2.3.4\npublic_hostname=router-1.site1.ims.test\nnode_role=router\ndeployment_id=d\ndns_zone=ims.test"},
		config.File{Name: config.SharedFile, Text: "home_domain=ims.test\nnonce_key=k\n" + shared})
	if err != nil {
		t.Fatal(err)
	}
	return New(o)
}

func TestLocal(t *testing.T) {
	n := names(t, "alias_list=also.test")
	for text, want := range map[string]Function{
		"sip:scscf.router.ims.test": SCSCF, "sip:ICSCF.Router.ims.test;lr": ICSCF, "sip:bgcf.router.ims.test:5053": BGCF,
		"sip:icscf.router.site1.ims.test": ICSCF, "sip:bgcf.router-1.site1.ims.test": BGCF,
		"sip:router.ims.test": SCSCF, "sip:10.1.0.1": SCSCF, "sip:10.1.0.1:5052": ICSCF, "sip:10.1.0.1:5053": BGCF, "sip:10.1.0.1:5054": SCSCF,
		"sip:token@10.1.0.1:5054;lr": SCSCF, "sip:also.test": SCSCF, "sip:1.2.3.4:5052": ICSCF, "sip:10.1.0.1;service=bgcf": BGCF,
		"sip:10.1.0.1:9999": "", "sip:ims.test": "", "sip:10.1.0.2:5054": "", "sip:scscf.router.site2.ims.test": "", "tel:+1": "", "sip:x.scscf.router.ims.test": "",
	} {
		u, err := sip.ParseURI(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.Local(u); got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
}

// Functions have the names that options give them: a prefix, or a URI that sites share, with a transport or a port.
func TestNamesOfFunctions(t *testing.T) {
	for _, c := range []struct{ options, uri, function, name string }{
		{"scscf_prefix=serving", "sip:serving.router.ims.test", "scscf", "sip:serving.router.ims.test;transport=TCP"},
		{"scscf_prefix=serving", "sip:scscf.router.ims.test", "", ""},
		{"scscf_uri='sip:scscf.all-sites.test;transport=udp'", "sip:scscf.ALL-sites.test;lr", "scscf", "sip:scscf.all-sites.test;transport=udp"},
		{"scscf_uri='sip:scscf.all-sites.test;transport=udp'", "sip:scscf.router.ims.test", "scscf", ""},
		{"scscf_uri=sip:core.test:5054\nicscf_uri=sip:core.test:5052", "sip:core.test:5052", "icscf", "sip:core.test:5054"},
		{"scscf_uri=sip:core.test:5054\nicscf_uri=sip:core.test:5052", "sip:core.test:5054", "scscf", ""},
		{"bgcf=0\nbgcf_uri=sip:bgcf.away.test", "sip:bgcf.away.test", "", ""},
		{"bgcf=0\nbgcf_uri=sip:bgcf.away.test", "sip:bgcf.router.ims.test", "", ""},
		{"scscf_uri=sip:10.1.0.1:5054", "sip:10.1.0.1:5052", "icscf", "sip:10.1.0.1:5054"},
	} {
		n := names(t, c.options)
		u, err := sip.ParseURI(c.uri)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.Local(u); string(got) != c.function {
			t.Errorf("%s: %s is %q, want %q", c.options, c.uri, got, c.function)
		}
		if c.name != "" && n.ServerName() != c.name {
			t.Errorf("%s: the S-CSCF is called %s", c.options, n.ServerName())
		}
	}
	if n := names(t, "bgcf=0\nbgcf_uri=sip:bgcf.away.test"); n.URI(BGCF).String() != "sip:bgcf.away.test;lr" {
		t.Errorf("requests for the BGCF go to %s", n.URI(BGCF))
	}
}

func TestHomes(t *testing.T) {
	n := names(t, "additional_home_domains=second.test,third.test")
	for host, want := range map[string]bool{"ims.test": true, "IMS.Test": true, "second.test": true, "third.test": true, "fourth.test": false, "router.ims.test": false, "": false} {
		if n.Home(host) != want {
			t.Errorf("home %q: want %v", host, want)
		}
	}
	for host, want := range map[string]bool{"router.ims.test": true, "10.1.0.1": true, "Scscf.router.ims.test": true, "ims.test": false, "other": false} {
		if n.Here(host) != want {
			t.Errorf("here %q: want %v", host, want)
		}
	}
	if n.HomeDomain() != "ims.test" || n.ByPort(5052) != ICSCF || n.ByPort(1) != "" {
		t.Error("home domain or ports")
	}
}

func TestValues(t *testing.T) {
	n := names(t, "")
	for got, want := range map[string]string{
		n.ServerName(): "sip:scscf.router.ims.test;transport=TCP", n.ServiceRoute(): "<sip:scscf.router.ims.test;transport=TCP;lr;orig>",
		n.RecordRoute("charge-orig"): "<sip:scscf.router.ims.test;transport=TCP;lr;billing-role=charge-orig>",
		n.URI(BGCF).String():         "sip:bgcf.router.ims.test;transport=TCP;lr",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got[0] == '<' {
			if u, err := sip.AddressURI(got); err != nil || n.Local(u) != SCSCF {
				t.Errorf("%s does not lead back here", got)
			}
		}
	}
	for level, want := range map[string]bool{"pcscf": false, "pcscf,icscf": true, "pcscf,icscf,as": true} {
		if names(t, "sprout_rr_level="+level).RecordRoutesICSCF() != want {
			t.Errorf("sprout_rr_level=%s: want %v", level, want)
		}
	}
}
