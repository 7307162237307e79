package config

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestWhenOptionsTakeEffect reads every option of the manual and compares when a change of it takes effect with the list.
func TestWhenOptionsTakeEffect(t *testing.T) {
	text, err := os.ReadFile("testdata/manual.tsv")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 4 {
			t.Errorf("%q has %d columns, want file, name, default and when it takes effect", line, len(f))
			continue
		}
		got := Effect(f[1])
		if strings.HasPrefix(got, "accepted, no effect") || strings.HasPrefix(got, "not supported yet") {
			got = "none"
		}
		if got != f[3] {
			t.Errorf("%s takes effect at %q, the list says %q", f[1], got, f[3])
		}
		kind, _, _ := strings.Cut(got, " ")
		counts[kind]++
	}
	t.Logf("figures: options of the manual: live %d, by a restart %d, at the node's start %d, without effect %d", counts["live"], counts["restart"], counts["start"], counts["none"])
}

func TestRestartsAreOfKnownOptions(t *testing.T) {
	known := byName()
	for name, roles := range restarts() {
		if s, ok := known[name]; !ok || (s.scope != scopeShared && s.scope != scopeAny) || s.why != "" {
			t.Errorf("%s is no option of shared_config that has an effect", name)
		}
		if len(roles) == 0 {
			t.Errorf("%s restarts nobody", name)
		}
	}
	if Effect("no_such_option") != "" {
		t.Error("an unknown option has an effect")
	}
}

func TestNeedsRestart(t *testing.T) {
	before, after := Defaults(), Defaults()
	after.EdgeTLSPort, after.RegMaxExpires, after.SIPTCPConnect = 5071, time.Hour, time.Second
	if got := NeedsRestart(Edge, before, after); !slices.Equal(got, []string{"sip_tcp_connect_timeout", "edge_tls_port"}) {
		t.Errorf("an edge restarts for %v", got)
	}
	if got := NeedsRestart(Router, before, after); !slices.Equal(got, []string{"sip_tcp_connect_timeout"}) {
		t.Errorf("a router restarts for %v", got)
	}
	if got := NeedsRestart(Store, before, after); len(got) != 0 {
		t.Errorf("a store restarts for %v", got)
	}
	if got := NeedsRestart(Edge, after, after); len(got) != 0 {
		t.Errorf("without a change: %v", got)
	}
}
