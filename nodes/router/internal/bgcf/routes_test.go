package bgcf

import (
	"slices"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

func parse(t *testing.T, text string) *Routes {
	t.Helper()
	r, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDomains(t *testing.T) {
	r := parse(t, `{"routes":[
		{"name":"a","domain":"Peer.test","route":["sip:one.test;lr","<sip:two.test;lr>"]},
		{"name":"twice","domain":"peer.test","route":["sip:never.test"]},
		{"name":"rest","domain":"*","route":["sip:default.test"]}]}`)
	for host, want := range map[string]string{
		"peer.test": "sip:one.test;lr sip:two.test;lr", "PEER.TEST": "sip:one.test;lr sip:two.test;lr",
		"sub.peer.test": "sip:default.test", "": "sip:default.test",
	} {
		if via, ok := r.Domain(host); !ok || strings.Join(via, " ") != want {
			t.Errorf("%q goes by %q, want %q", host, via, want)
		}
	}
	if via, ok := parse(t, `{"routes":[{"name":"a","domain":"x.test","route":["sip:one.test"]}]}`).Domain("y.test"); ok {
		t.Errorf("without a default %q", via)
	}
	if via, ok := parse(t, "").Domain("y.test"); ok {
		t.Errorf("without a document %q", via)
	}
}

func TestNumbers(t *testing.T) {
	r := parse(t, `{"routes":[
		{"name":"uk","number":"+44","route":["sip:uk.test"]},
		{"name":"london","number":"+44-20","route":["sip:london.test"]},
		{"name":"twice","number":"+4420","route":["sip:never.test"]},
		{"name":"short","number":"1","route":["sip:one.test"]}]}`)
	for number, want := range map[string]string{
		"+44161": "sip:uk.test", "+44201234": "sip:london.test", "+4420": "sip:london.test", "+442": "sip:uk.test", "112": "sip:one.test",
		"+4": "", "+1": "", "": "",
	} {
		via, ok := r.Number(number)
		if ok != (want != "") || strings.Join(via, " ") != want {
			t.Errorf("%q goes by %q, want %q", number, via, want)
		}
	}
	if via, ok := parse(t, `{"routes":[{"name":"all","number":"","route":["sip:all.test"]}]}`).Number("+1"); !ok || !slices.Equal(via, []string{"sip:all.test"}) {
		t.Errorf("the empty prefix gives %q", via)
	}
}

// Every entry that is wrong is named, by number and name.
func TestFaultsOfTheDocument(t *testing.T) {
	_, err := Parse(`{"routes":[
		{"name":"good","domain":"a.test","route":["sip:x.test"]},
		{"name":"both","domain":"a.test","number":"+1","route":["sip:x.test"]},
		{"name":"neither","route":["sip:x.test"]},
		{"name":"nowhere","domain":"b.test","route":[]},
		{"name":"web","domain":"c.test","route":["http://x.test"]}]}`)
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{`entry 2 ("both"): exactly one`, `entry 3 ("neither"): exactly one`, `entry 4 ("nowhere"): route is empty`, `entry 5 ("web"): route "http://x.test"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nhas not %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "entry 1") {
		t.Error("the good entry is named")
	}
	if _, err := Parse("{"); err == nil {
		t.Error("no JSON is taken")
	}
}

func TestRoutingNumber(t *testing.T) {
	for uri, want := range map[string]string{
		"tel:+1-555-1": "+15551", "tel:+15551;npdi;rn=+1-201": "+1201", "sip:+15551;rn=+1202;npdi@ims.test;user=phone": "+1202",
		"sip:+15551@ims.test;user=phone": "+15551", "tel:+15551;rn=": "+15551",
	} {
		u, err := sip.ParseURI(uri)
		if err != nil {
			t.Fatal(err)
		}
		if got := RoutingNumber(u); got != want {
			t.Errorf("%s routes by %q, want %q", uri, got, want)
		}
	}
}
