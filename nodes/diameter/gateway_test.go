package main

import (
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/dictionary"
)

func TestOriginHost(t *testing.T) {
	for _, c := range []struct{ option, hostname, want string }{
		{"", "diameter-1.site1.example.com", "diameter-1.site1.example.com"},
		{"", "[2001:db8::1]", "2001-db8--1"},
		{"", "2001:db8::1", "2001-db8--1"},
		{"", "192.0.2.1", "192.0.2.1"},
		{"gw.example.com", "diameter-1.site1.example.com", "gw.example.com"},
	} {
		got := identityOf(&config.Options{DiameterIdentity: c.option, PublicHostname: c.hostname})
		if got != c.want || !dictionary.Identity(got) {
			t.Errorf("hs_diameteridentity=%q, public_hostname=%q: %q, want %q", c.option, c.hostname, got, c.want)
		}
	}
}

func TestQuestionsFollowTheOptions(t *testing.T) {
	o := &config.Options{
		HomeDomain: "example.com", RouterHostname: "router.example.com", ExternalHSSHostname: "hss.example.com", DiameterTimeout: time.Second, RegMaxExpires: 2 * time.Hour,
		ReRegistration: 30 * time.Minute, IMPUCache: time.Minute, HSSNegativeCache: 5 * time.Second, RequestSharedIFCs: true,
	}
	s := settings(o)
	if s.Realm != "example.com" || s.Host != "hss.example.com" || s.ServerName != "sip:scscf.router.example.com;transport=TCP" || s.Timeout != time.Second || !s.SharedIFCs || s.Digest != time.Minute || s.Negative != 5*time.Second {
		t.Errorf("got %+v", s)
	}
	// the manual: not safe below half of reg_max_expires
	if s.ReAssign != time.Hour {
		t.Errorf("hss_reregistration_time of 1800 s with reg_max_expires of 7200 s becomes %v", s.ReAssign)
	}
	o.ExternalHSSRealm, o.ExternalHSSHostname = "hss.test", "0.0.0.0"
	if s := settings(o); s.Realm != "hss.test" || s.Host != "" {
		t.Errorf("got %+v", s)
	}
}
