package config

import (
	"maps"
	"testing"

	nodeconfig "github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/check"
)

func TestEditTouchesOnlyListedKeys(t *testing.T) {
	const text = "# people's note\nhome_domain=ims.example.com\nreg_max_expires=300 # old\nnonce_count_supported=Y\n"
	for name, tc := range map[string]struct {
		wanted, before map[string]string
		want           string
	}{
		"set":       {map[string]string{"reg_max_expires": "600"}, nil, "# people's note\nhome_domain=ims.example.com\nreg_max_expires=600\nnonce_count_supported=Y\n"},
		"add":       {map[string]string{"sub_max_expires": "700"}, nil, text + "sub_max_expires=700\n"},
		"drop":      {nil, map[string]string{"reg_max_expires": "300"}, "# people's note\nhome_domain=ims.example.com\nnonce_count_supported=Y\n"},
		"same":      {map[string]string{"nonce_count_supported": "Y"}, map[string]string{"nonce_count_supported": "Y"}, text},
		"not there": {nil, map[string]string{"scscf": "0"}, text},
		"quotes":    {map[string]string{"alias_list": "a b"}, nil, text + "alias_list=\"a b\"\n"},
	} {
		if got := edit(text, tc.wanted, tc.before); got != tc.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, tc.want)
		}
	}
	if got := edit("", map[string]string{"scscf": "0"}, nil); got != "scscf=0\n" {
		t.Errorf("into nothing: %q", got)
	}
	if got := edit("a=1\na=2\n", map[string]string{"a": "3"}, nil); got != "a=3\n" {
		t.Errorf("twice set: %q", got)
	}
}

func TestCurrentReadsListedKeysOrForAnImportAllThatAreNotOwned(t *testing.T) {
	const text = "home_domain=x.y\nsignup_key=secret\nnonce_key=secret\nreg_max_expires='300'\nscscf=5054 # port\n"
	if got := current(text, false, map[string]string{"scscf": "1", "bgcf": "2"}); !maps.Equal(got, map[string]string{"scscf": "5054"}) {
		t.Errorf("listed: %v", got)
	}
	if got := current(text, true, nil); !maps.Equal(got, map[string]string{"reg_max_expires": "300", "scscf": "5054"}) {
		t.Errorf("import: %v", got)
	}
}

// Every key that the provider keeps for itself is one that nodes know: a renamed option would slip through otherwise.
func TestOwnedKeysAreKnown(t *testing.T) {
	known := map[string]bool{}
	for _, name := range nodeconfig.Names("shared") {
		known[name] = true
	}
	for _, name := range owned() {
		if !known[name] {
			t.Errorf("%s is not an option of shared_config", name)
		}
	}
}

func TestOptionsAreCheckedAsNodesWould(t *testing.T) {
	for name, tc := range map[string]struct {
		file, option, value string
		ok, noted           bool
	}{
		"good":        {nodeconfig.SharedFile, "reg_max_expires", "60", true, false},
		"no effect":   {nodeconfig.SharedFile, "num_worker_threads", "4", true, true},
		"bad value":   {nodeconfig.SharedFile, "reg_max_expires", "soon", false, false},
		"unknown":     {nodeconfig.SharedFile, "reg_max_expire", "60", false, false},
		"wrong file":  {nodeconfig.SharedFile, "local_ip", "127.0.0.1", false, false},
		"user option": {nodeconfig.UserFile, "log_level", "5", true, false},
		"not a user":  {nodeconfig.UserFile, "reg_max_expires", "60", false, false},
	} {
		note, err := check.Option(tc.file, tc.option, tc.value)
		if (err == nil) != tc.ok || (note != "") != tc.noted {
			t.Errorf("%s: %q, %v", name, note, err)
		}
	}
}
