package icscf

import (
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

const document = `{"s-cscfs":[
 {"server":"sip:plain.test","priority":0,"weight":100,"capabilities":[]},
 {"server":"sip:one.test","priority":1,"weight":25,"capabilities":[1,2]},
 {"server":"sip:half.test","priority":1,"weight":75,"capabilities":[1,2]},
 {"server":"sip:rich.test","priority":5,"weight":1,"capabilities":[1,2,3,4]}]}`

func TestSelect(t *testing.T) {
	p, err := ParsePool(document)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		mandatory, optional []int32
		tried               string
		want                string // any of these; "" none
	}{
		"nothing wanted: the lowest priority":  {nil, nil, "", "sip:plain.test"},
		"mandatory beats priority":             {[]int32{1}, nil, "", "sip:one.test sip:half.test"},
		"all mandatory ones":                   {[]int32{1, 3}, nil, "", "sip:rich.test"},
		"no server has it":                     {[]int32{9}, nil, "", ""},
		"most optional ones beat priority":     {nil, []int32{1, 3, 9}, "", "sip:rich.test"},
		"equal optional ones: priority":        {nil, []int32{2}, "", "sip:one.test sip:half.test"},
		"optional does not replace mandatory":  {[]int32{9}, []int32{1, 2, 3}, "", ""},
		"one that failed is left out":          {[]int32{1}, nil, "sip:one.test sip:half.test", "sip:rich.test"},
		"all that can have failed":             {[]int32{3}, nil, "sip:rich.test", ""},
		"unwanted optional ones do not matter": {nil, []int32{9}, "", "sip:plain.test"},
	} {
		tried := map[string]bool{}
		for _, s := range strings.Fields(c.tried) {
			tried[s] = true
		}
		for range 20 {
			u, ok := p.Select(&hss.Capabilities{Mandatory: c.mandatory, Optional: c.optional}, tried)
			if ok != (c.want != "") || (ok && !strings.Contains(" "+c.want+" ", " "+u.String()+" ")) {
				t.Errorf("%s: %s, %v; want one of %q", name, u, ok, c.want)
			}
		}
	}
}

func TestSelectByWeight(t *testing.T) {
	p, _ := ParsePool(document)
	count := map[string]int{}
	for range 10000 {
		u, _ := p.Select(&hss.Capabilities{Mandatory: []int32{1}, Optional: []int32{2}}, nil)
		count[u.String()]++
	}
	if n := count["sip:half.test"]; n < 7000 || n > 8000 { // 12 standard deviations
		t.Errorf("weight 75 of 100 got %d of 10000", n)
	}
	even, _ := ParsePool(`{"s-cscfs":[{"server":"sip:a.test"},{"server":"sip:b.test"}]}`)
	count = map[string]int{}
	for range 1000 {
		u, _ := even.Select(nil, nil)
		count[u.String()]++
	}
	if count["sip:a.test"] < 300 || count["sip:b.test"] < 300 {
		t.Errorf("without weights: %v", count)
	}
}

func TestPoolThatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		`{`: "s-cscf.json", `{"s-cscfs":[{"server":"sip:a.test"},{"server":"nonsense"}]}`: `entry 2: server "nonsense"`,
		`{"s-cscfs":[{"server":"tel:+1"}]}`:                     "entry 1",
		`{"s-cscfs":[{"server":"sip:a.test","priority":-1}]}`:   "must not be negative",
		`{"s-cscfs":[{"server":"sip:a.test","weight":"much"}]}`: "s-cscf.json",
	} {
		if _, err := ParsePool(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", text, err, want)
		}
	}
	if p, err := ParsePool(""); err != nil || len(p.Servers) != 0 {
		t.Errorf("no document: %v, %v", p, err)
	}
}
