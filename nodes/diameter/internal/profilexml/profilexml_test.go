package profilexml

import (
	"errors"
	"strings"
	"testing"
)

const mmtel = `<InitialFilterCriteria><TriggerPoint><ConditionTypeCNF>0</ConditionTypeCNF><SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>INVITE</Method><Extension/></SPT></TriggerPoint><ApplicationServer><ServerName>sip:mmtel.example.com</ServerName><DefaultHandling>0</DefaultHandling></ApplicationServer></InitialFilterCriteria>`

func TestParsePublicIdentity(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want PublicIdentity
		err  string
	}{
		"plain":      {text: `<PublicIdentity><Identity>sip:a@b</Identity></PublicIdentity>`, want: PublicIdentity{Identity: "sip:a@b"}},
		"whole":      {text: "<?xml version=\"1.0\"?>\n<PublicIdentity> <BarringIndication>1</BarringIndication>\n<Identity> tel:+1 </Identity></PublicIdentity>\n", want: PublicIdentity{Identity: "tel:+1", Barred: true}},
		"namespaces": {text: `<cx:PublicIdentity xmlns:cx="urn:x" cx:a="1"><cx:Identity>sip:a@b;x=&lt;y&gt;</cx:Identity><!-- no --></cx:PublicIdentity>`, want: PublicIdentity{Identity: "sip:a@b;x=<y>"}},
		"extension": {text: `<PublicIdentity><Identity>sip:a@b</Identity><Extension><IdentityType>3</IdentityType><WildcardedIMPU>sip:a!.*!@b</WildcardedIMPU><Extension><Extension><AliasIdentityGroupID>7</AliasIdentityGroupID></Extension></Extension></Extension></PublicIdentity>`,
			want: PublicIdentity{Identity: "sip:a@b", Extension: `<Extension><IdentityType>3</IdentityType><WildcardedIMPU>sip:a!.*!@b</WildcardedIMPU><Extension><Extension><AliasIdentityGroupID>7</AliasIdentityGroupID></Extension></Extension></Extension>`}},
		"empty":          {text: "", err: "one element"},
		"not XML":        {text: "hello", err: "XML"},
		"cut":            {text: "<PublicIdentity><Identity>sip:a@b", err: "EOF"},
		"two":            {text: "<PublicIdentity><Identity>sip:a@b</Identity></PublicIdentity><x/>", err: "one element"},
		"other":          {text: "<Identity>sip:a@b</Identity>", err: "wanted is <PublicIdentity>"},
		"no identity":    {text: "<PublicIdentity/>", err: "needs <Identity>"},
		"two identities": {text: "<PublicIdentity><Identity>sip:a@b</Identity><Identity>sip:a@b</Identity></PublicIdentity>", err: "2 times"},
		"barring":        {text: "<PublicIdentity><Identity>sip:a@b</Identity><BarringIndication>maybe</BarringIndication></PublicIdentity>", err: `<BarringIndication> is "maybe", allowed is 0, 1`},
		"unknown":        {text: "<PublicIdentity><Identity>sip:a@b</Identity><Colour>red</Colour></PublicIdentity>", err: "<Colour> is not allowed in <PublicIdentity>"},
		"scheme":         {text: "<PublicIdentity><Identity>mailto:a@b</Identity></PublicIdentity>", err: "a sip:, sips: or tel: URI"},
		"type":           {text: "<PublicIdentity><Identity>sip:a@b</Identity><Extension><IdentityType>9</IdentityType></Extension></PublicIdentity>", err: "from 0 to 4"},
		"doctype":        {text: `<!DOCTYPE x [<!ENTITY a "b">]><PublicIdentity><Identity>sip:a@b</Identity></PublicIdentity>`, err: "document type"},
		"deep":           {text: strings.Repeat("<Extension>", 100_000), err: "deep"},
		"mixed":          {text: "<PublicIdentity>x<Identity>sip:a@b</Identity></PublicIdentity>", err: "holds text"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParsePublicIdentity([]byte(tc.text))
			if tc.err != "" {
				if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want an error with %q", err, tc.err)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
}

func TestParseServiceProfile(t *testing.T) {
	wrap := func(s string) string { return "<ServiceProfile>" + s + "</ServiceProfile>" }
	criterion := func(trigger, server string) string {
		return wrap("<InitialFilterCriteria><Priority>1</Priority>" + trigger + server + "</InitialFilterCriteria>")
	}
	const server = "<ApplicationServer><ServerName>sip:as.example.com</ServerName></ApplicationServer>"
	for name, tc := range map[string]struct{ text, want, err string }{
		"default criterion":           {text: wrap(mmtel), want: mmtel},
		"identities are not criteria": {text: wrap("<PublicIdentity><Identity>sip:a@b</Identity></PublicIdentity>" + mmtel), want: mmtel},
		"shared sets":                 {text: wrap("<Extension><SharedIFCSetID>1</SharedIFCSetID><SharedIFCSetID>2</SharedIFCSetID></Extension>"), want: "<Extension><SharedIFCSetID>1</SharedIFCSetID><SharedIFCSetID>2</SharedIFCSetID></Extension>"},
		"no criteria":                 {text: wrap(""), want: ""},
		"header":                      {text: criterion("<TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF><SPT><Group>0</Group><Group>1</Group><SIPHeader><Header>X-Y</Header><Content>a&amp;b</Content></SIPHeader></SPT></TriggerPoint>", server), want: "<InitialFilterCriteria><Priority>1</Priority><TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF><SPT><Group>0</Group><Group>1</Group><SIPHeader><Header>X-Y</Header><Content>a&amp;b</Content></SIPHeader></SPT></TriggerPoint>" + server + "</InitialFilterCriteria>"},
		"no server":                   {text: criterion("", ""), err: "needs <ApplicationServer>"},
		"server scheme":               {text: criterion("", "<ApplicationServer><ServerName>http://x</ServerName></ApplicationServer>"), err: "a SIP URI"},
		"handling":                    {text: criterion("", "<ApplicationServer><ServerName>sip:x</ServerName><DefaultHandling>2</DefaultHandling></ApplicationServer>"), err: "from 0 to 1"},
		"no trigger":                  {text: criterion("<TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF></TriggerPoint>", server), err: "needs <SPT>"},
		"no group":                    {text: criterion("<TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF><SPT><Method>INVITE</Method></SPT></TriggerPoint>", server), err: "needs <Group>"},
		"two conditions":              {text: criterion("<TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF><SPT><Group>0</Group><Method>INVITE</Method><SessionCase>0</SessionCase></SPT></TriggerPoint>", server), err: "exactly one of"},
		"session case":                {text: criterion("<TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF><SPT><Group>0</Group><SessionCase>7</SessionCase></SPT></TriggerPoint>", server), err: "from 0 to 4"},
		"other root":                  {text: mmtel, err: "wanted is <ServiceProfile>"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseServiceProfile([]byte(tc.text))
			if tc.err != "" {
				if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want an error with %q", err, tc.err)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("got %s, %v, want %s", got, err, tc.want)
			}
		})
	}
}

func TestIMSSubscription(t *testing.T) {
	got := IMSSubscription("Unspecified", []Profile{
		{Identities: []PublicIdentity{{Identity: "sip:a&b@c", Barred: true}, {Identity: "tel:+1", Extension: "<Extension/>"}}, Criteria: mmtel},
		{Criteria: mmtel},
	})
	want := "<IMSSubscription><PrivateID>Unspecified</PrivateID><ServiceProfile><PublicIdentity><Identity>sip:a&amp;b@c</Identity><BarringIndication>1</BarringIndication></PublicIdentity>" +
		"<PublicIdentity><Identity>tel:+1</Identity><Extension/></PublicIdentity>" + mmtel + "</ServiceProfile></IMSSubscription>"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What was parsed once parses again to the same.
func FuzzParseServiceProfile(f *testing.F) {
	f.Add("<ServiceProfile>" + mmtel + "</ServiceProfile>")
	f.Add("<ServiceProfile><Extension>&#x41;<a/></Extension></ServiceProfile>")
	f.Fuzz(func(t *testing.T, text string) {
		criteria, err := ParseServiceProfile([]byte(text))
		if err != nil {
			return
		}
		again, err := ParseServiceProfile([]byte(ServiceProfile(criteria)))
		if err != nil || again != criteria {
			t.Errorf("%q became %q, then %q, %v", text, criteria, again, err)
		}
	})
}
