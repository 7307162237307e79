package preference

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

func request(headers ...string) *sip.Message {
	m, err := sip.Parse([]byte("INVITE sip:bob@ims.test SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKa\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:bob@ims.test>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n" +
		strings.Join(append(headers, ""), "\r\n") + "\r\n"))
	if err != nil {
		panic(err)
	}
	return m
}

// order is the ids of what is left of contacts "<id> <q> <params>".
func order(m *sip.Message, contacts ...string) string {
	var in []*registrations.Binding
	for i, c := range contacts {
		b := &registrations.Binding{Q: 1000, ExpiresAt: int64(1000 - i)}
		f := strings.SplitN(c, " ", 3)
		b.Id = f[0]
		if len(f) > 1 {
			_, _ = fmt.Sscan(f[1], &b.Q)
		}
		if len(f) > 2 {
			b.Params = f[2]
		}
		in = append(in, b)
	}
	var out []string
	for _, b := range Order(m, in) {
		out = append(out, b.GetId())
	}
	return strings.Join(out, " ")
}

// The example of RFC 3841 7.2.5: five contacts, two Accept-Contacts and a Reject-Contact.
func TestExampleOfTheRFC(t *testing.T) {
	m := request(
		`Reject-Contact: *;actor="msg-taker";video`,
		`Accept-Contact: *;audio;require`,
		`Accept-Contact: *;video;explicit`,
		`Accept-Contact: *;methods="BYE";class="business"`)
	got := order(m,
		`u1 1000 ;audio;video;methods="INVITE,BYE"`, `u2 1000 ;audio="FALSE";methods="INVITE";actor="msg-taker"`, `u3 1000 ;audio;actor="msg-taker";methods="INVITE";video`,
		`u4 1000 ;audio;methods="INVITE,OPTIONS"`, `u5 500`)
	// u2 contradicts what is required, u3 is rejected; u1 scores (1+1+0.5)/3, u4 (1+0+0)/3; u5 has said nothing.
	if got != "u1 u4 u5" {
		t.Errorf("got %s", got)
	}
}

func TestOrder(t *testing.T) {
	for name, c := range map[string]struct {
		headers  []string
		contacts []string
		want     string
	}{
		"by q":                      {nil, []string{"a 100", "b 1000", "c 500"}, "b c a"},
		"by time":                   {nil, []string{"a 500", "b 500"}, "a b"},
		"q before preference":       {[]string{"Accept-Contact: *;audio"}, []string{"a 500 ;audio", "b 1000 ;video"}, "b a"},
		"preference within q":       {[]string{"Accept-Contact: *;audio"}, []string{"a 1000 ;video", "b 1000 ;audio"}, "b a"},
		"immune":                    {[]string{"Accept-Contact: *;audio;require;explicit", "Reject-Contact: *;audio"}, []string{"a 1000 ;expires=5", "b 1000 ;audio"}, "a"},
		"require keeps the silent":  {[]string{"Accept-Contact: *;audio;require"}, []string{"a 1000 ;video", "b 1000 ;audio=\"FALSE\""}, "a"},
		"require and explicit":      {[]string{"Accept-Contact: *;audio;require;explicit"}, []string{"a 1000 ;video", "b 1000 ;audio;video"}, "b"},
		"explicit alone":            {[]string{"Accept-Contact: *;audio;video;explicit"}, []string{"a 1000 ;audio", "b 1000 ;audio;video"}, "b a"},
		"half a match":              {[]string{"Accept-Contact: *;audio;video"}, []string{"a 1000 ;text", "b 1000 ;audio", "c 1000 ;audio;video"}, "c b a"},
		"rejected only when stated": {[]string{"Reject-Contact: *;audio;video"}, []string{"a 1000 ;audio", "b 1000 ;audio;video"}, "a"},
		"several rejections":        {[]string{"Reject-Contact: *;audio", "Reject-Contact: *;text"}, []string{"a 1000 ;audio", "b 1000 ;text", "c 1000 ;video"}, "c"},
		"one header, two values":    {[]string{"Reject-Contact: *;audio, *;text"}, []string{"a 1000 ;audio", "b 1000 ;text", "c 1000 ;video"}, "c"},
		"short form":                {[]string{"j: *;audio"}, []string{"a 1000 ;audio", "b 1000 ;video"}, "b"},
		"methods without a word":    {nil, []string{`a 1000 ;methods="MESSAGE"`, `b 1000 ;methods="INVITE,BYE"`, "c 1000 ;audio"}, "b c"},
		"events without a word":     {[]string{"Event: presence;x=y"}, []string{`a 1000 ;events="reg"`, `b 1000 ;events="presence"`}, "b"},
		"a word, so no methods":     {[]string{"Reject-Contact: *;text"}, []string{`a 1000 ;methods="MESSAGE"`}, "a"},
		"strings by case":           {[]string{`Accept-Contact: *;+sip.instance="<urn:A>";require;explicit`}, []string{`a 1000 ;+sip.instance="<urn:a>"`, `b 1000 ;+sip.instance="<urn:A>"`}, "b"},
		"tokens by no case":         {[]string{`Accept-Contact: *;+g.3gpp.icsi-ref="urn%3Aurn-7%3A3gpp-service.ims.icsi.MMTEL";require;explicit`}, []string{`a 1000 ;+G.3gpp.icsi-ref="x,urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel"`, "b 1000 ;audio"}, "a"},
		"negated":                   {[]string{`Accept-Contact: *;class="!business";require`}, []string{`a 1000 ;class="business"`, `b 1000 ;class="personal"`, `c 1000 ;class="!personal"`}, "b c"},
		"contact negates":           {[]string{`Accept-Contact: *;class="business";require`}, []string{`a 1000 ;class="!business"`, `b 1000 ;class="!personal"`}, "b"},
		"at least":                  {[]string{`Accept-Contact: *;+x="#>=5";require`}, []string{`a 1000 ;+x="#4.5"`, `b 1000 ;+x="#5"`, `c 1000 ;+x="#1:7"`, `d 1000 ;+x="#<=4"`, `e 1000 ;+x="many"`}, "b c"},
		"not a number":              {[]string{`Accept-Contact: *;+x="!#5";require`}, []string{`a 1000 ;+x="#5"`, `b 1000 ;+x="#5:6"`, `c 1000 ;+x="#=4"`}, "b c"},
		"TRUE is the flag":          {[]string{`Accept-Contact: *;audio="TRUE";require`}, []string{`a 1000 ;audio`, `b 1000 ;audio="true"`, `c 1000 ;audio="FALSE"`}, "a b"},
		"nothing but directives":    {[]string{`Accept-Contact: *;require;explicit`, "Accept-Contact: *"}, []string{"a 1000 ;audio"}, "a"},
		"nobody":                    {[]string{"Accept-Contact: *;audio;require"}, []string{`a 1000 ;audio="FALSE"`}, ""},
	} {
		if got := order(request(c.headers...), c.contacts...); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestDisposition(t *testing.T) {
	for value, want := range map[string]Fork{
		"": Parallel, "parallel": Parallel, "fork, parallel": Parallel, "sequential": Sequential, "proxy, Sequential, no-cancel": Sequential, "no-fork": Single, "sequential,NO-FORK": Single, "redirect": Parallel,
	} {
		m := request()
		if value != "" {
			m.Add(sip.RequestDisposition, value)
		}
		if got := Disposition(m); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

// Whatever the headers, no contact is made up or doubled, one that said nothing of itself stays, and adding Reject-Contact
// never brings one back.
func TestLaws(t *testing.T) {
	feature := rapid.SampledFrom([]string{";audio", ";video", `;audio="FALSE"`, `;class="a,!b"`, `;+x="#>=3"`, `;+x="#1:2"`, `;methods="INVITE"`, ";require", ";explicit", `;+s="<S>"`})
	list := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(feature, 0, 4).Draw(t, "features"), "")
	})
	rapid.Check(t, func(t *rapid.T) {
		var contacts []string
		for i := range rapid.IntRange(0, 5).Draw(t, "contacts") {
			contacts = append(contacts, fmt.Sprintf("%d %d %s", i, rapid.IntRange(0, 2).Draw(t, "q"), list.Draw(t, "contact")))
		}
		var headers []string
		for range rapid.IntRange(0, 3).Draw(t, "headers") {
			headers = append(headers, rapid.SampledFrom([]string{"Accept-Contact: *", "Reject-Contact: *"}).Draw(t, "header")+list.Draw(t, "value"))
		}
		got := strings.Fields(order(request(headers...), contacts...))
		seen := map[string]bool{}
		for _, id := range got {
			if seen[id] {
				t.Fatalf("%s twice in %v", id, got)
			}
			seen[id] = true
		}
		for _, c := range contacts {
			f := strings.SplitN(c, " ", 3)
			if len(featuresOf(f[2])) == 0 && !seen[f[0]] {
				t.Fatalf("immune contact %s is gone", f[0])
			}
		}
		if len(predicates(request(headers...), sip.RejectContact))+len(predicates(request(headers...), sip.AcceptContact)) == 0 {
			return // the implicit preference goes with the first word
		}
		for _, id := range strings.Fields(order(request(append(headers, "Reject-Contact: *"+list.Draw(t, "more"))...), contacts...)) {
			if !seen[id] {
				t.Fatalf("a rejection brings %s back", id)
			}
		}
	})
}
