package ifc_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/clearwater-ims/clearwater/nodes/internal/ifc"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

const server = "<ApplicationServer><ServerName>sip:as.test</ServerName></ApplicationServer>"

func criterion(inner string) string {
	return "<InitialFilterCriteria>" + inner + "</InitialFilterCriteria>"
}

func trigger(cnf string, spts ...string) string {
	return "<TriggerPoint><ConditionTypeCNF>" + cnf + "</ConditionTypeCNF><SPT>" + strings.Join(spts, "</SPT><SPT>") + "</SPT></TriggerPoint>" + server
}

func parse(t testing.TB, inner string) ifc.Profile {
	t.Helper()
	p, err := ifc.ParseProfile(`<cx:ServiceProfile xmlns:cx="urn:x">` + inner + "</cx:ServiceProfile>")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func message(t testing.TB, uri string, headers ...string) *sip.Message {
	t.Helper()
	body := "v=0\r\no=- 1 1 IN IP4 h\r\nm=audio 49170 RTP/AVP 0\r\na=sendrecv\r\n"
	text := "INVITE " + uri + " SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: <sip:alice@home.test>;tag=1\r\nTo: <sip:bob@home.test>\r\n" +
		"Call-ID: 1\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\nP-Asserted-Identity: <sip:alice@home.test>, <tel:+1>\r\n"
	for _, h := range headers {
		text += h + "\r\n"
	}
	m, err := sip.Parse([]byte(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", text, len(body), body)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestConditions(t *testing.T) {
	const group = "<Group>0</Group>"
	header := func(name, content string) string {
		return group + "<SIPHeader><Header>" + name + "</Header>" + content + "</SIPHeader>"
	}
	sdp := func(line, content string) string {
		return group + "<SessionDescription><Line>" + line + "</Line>" + content + "</SessionDescription>"
	}
	uri := func(re string) string { return group + "<RequestURI>" + re + "</RequestURI>" }
	for name, c := range map[string]struct {
		spt  string
		uri  string // sip:bob@home.test:5070 if empty
		want bool
	}{
		"method":                       {group + "<Method>INVITE</Method>", "", true},
		"method is no expression":      {group + "<Method>INV.*</Method>", "", false},
		"method is exact":              {group + "<Method>invite</Method>", "", false},
		"negated":                      {group + "<ConditionNegated>1</ConditionNegated><Method>INVITE</Method>", "", false},
		"uri sees host and port":       {uri("^home[.]test:5070$"), "", true},
		"uri does not see the user":    {uri("bob"), "", false},
		"uri is searched":              {uri("me.te"), "", true},
		"uri is not blind to case":     {uri("HOME"), "", false},
		"uri of tel":                   {uri("^[+]1555$"), "tel:+1-555;phone-context=x", true},
		"uri of urn":                   {uri("^service:sos"), "urn:service:sos.fire", true},
		"uri of IPv6":                  {uri(`^\[::1\]:5060$`), "sip:a@[::1]:5060", true},
		"header is there":              {header("P-Asserted-Identity", ""), "", true},
		"header is blind to case":      {header("p-ASSERTED-identity", ""), "", true},
		"header is an expression":      {header("^P-Assert(ed|ing)", "<Content>alice</Content>"), "", true},
		"second value":                 {header("P-Asserted-Identity", "<Content>^&lt;tel:[+]1&gt;$</Content>"), "", true},
		"compact name":                 {header("^From$", "<Content>alice@home</Content>"), "", true},
		"value heeds case":             {header("From", "<Content>ALICE</Content>"), "", false},
		"header is absent":             {header("Accept-Contact", ""), "", false},
		"absent and negated":           {"<ConditionNegated>1</ConditionNegated>" + header("Accept-Contact", "<Content>x</Content>"), "", true},
		"empty content":                {header("Call-ID", "<Content/>"), "", true},
		"unknown header":               {header("x-ours", "<Content>yes</Content>"), "", true},
		"content length":               {header("^Content-Length$", "<Content>^[1-9]</Content>"), "", true},
		"sdp line":                     {sdp("m", "<Content>^audio</Content>"), "", true},
		"sdp line without its content": {sdp("m", "<Content>video</Content>"), "", false},
		"sdp line is there":            {sdp("a", ""), "", true},
		"sdp line is not there":        {sdp("b", ""), "", false},
		"case":                         {group + "<SessionCase>1</SessionCase>", "", true},
		"other case":                   {group + "<SessionCase>4</SessionCase>", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			p := parse(t, criterion(trigger("1", c.spt)))
			if len(p.Broken) != 0 {
				t.Fatal(p.Broken)
			}
			if c.uri == "" {
				c.uri = "sip:bob@home.test:5070"
			}
			q := &ifc.Query{Msg: message(t, c.uri, "X-OURS: yes"), Case: ifc.Terminating, Registered: true}
			if got := p.Criteria[0].Matches(q); got != c.want {
				t.Errorf("matches: %t", got)
			}
		})
	}
}

func TestDescriptionInMultipart(t *testing.T) {
	p := parse(t, criterion(trigger("1", "<Group>0</Group><SessionDescription><Line>m</Line><Content>audio</Content></SessionDescription>")))
	const part = "--b\r\nContent-Type: text/plain\r\n\r\nm=audio\r\n"
	for contentType, c := range map[string]struct {
		body string
		want bool
	}{
		"multipart/mixed;boundary=b":   {part + "--b\r\nContent-Type: application/sdp\r\n\r\nm=audio 1\r\n--b--\r\n", true},
		"multipart/related;boundary=b": {part + "--b--\r\n", false},
		"multipart/mixed":              {part, false},
		"text/plain":                   {"m=audio\r\n", false},
		"Application/SDP;x=y":          {"m=audio\r\n", true},
		"":                             {"m=audio\r\n", false},
	} {
		m := message(t, "sip:a@b")
		m.Set(sip.ContentType, contentType)
		m.Body = c.body
		if got := p.Criteria[0].Matches(&ifc.Query{Msg: m}); got != c.want {
			t.Errorf("%q: matches %t", contentType, got)
		}
	}
}

func TestRegistrationTypes(t *testing.T) {
	m := message(t, "sip:home.test")
	m.Method = sip.REGISTER
	p := parse(t, criterion(trigger("0", "<Group>0</Group><Method>REGISTER</Method><Extension><RegistrationType>0</RegistrationType><RegistrationType>2</RegistrationType></Extension>"))+
		criterion(trigger("0", "<Group>0</Group><Method>REGISTER</Method>")))
	for kind, want := range []int{0, 1, 0} {
		if got := ifc.Next(p.Criteria, 0, &ifc.Query{Msg: m, Registration: ifc.RegistrationType(kind)}); got != want {
			t.Errorf("registration type %d selects criterion %d, want %d", kind, got, want)
		}
	}
}

func TestProfile(t *testing.T) {
	named := func(n, inner string) string {
		return criterion(inner + "<ApplicationServer><ServerName>sip:" + n + "</ServerName></ApplicationServer>")
	}
	p := parse(t, named("c", "<Priority>2</Priority>")+named("a", "")+named("broken1", "<Priority>high</Priority>")+named("d", "<Priority>2</Priority>")+
		named("b", "<Priority>1</Priority><ProfilePartIndicator>1</ProfilePartIndicator>")+
		criterion("<Priority>0</Priority>")+
		criterion(trigger("1", "<Group>0</Group><RequestURI>*</RequestURI>"))+
		criterion(trigger("maybe", "<Group>0</Group><Method>A</Method>"))+
		criterion(trigger("1", "<Method>A</Method>"))+
		criterion(trigger("1", "<Group>0</Group><Method>A</Method><RequestURI>a</RequestURI>"))+
		criterion("<TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF></TriggerPoint>"+server)+
		criterion(trigger("1", "<Group>0</Group><SessionCase>5</SessionCase>"))+
		"<Extension><SharedIFCSetID>7</SharedIFCSetID><SharedIFCSetID>8</SharedIFCSetID><SharedIFCSetID>7</SharedIFCSetID><SharedIFCSetID>x</SharedIFCSetID></Extension>")
	if names(p.Criteria) != "a b c d" || len(p.Broken) != 9 {
		t.Errorf("criteria %s, broken %v", names(p.Criteria), p.Broken)
	}
	q := &ifc.Query{Msg: message(t, "sip:x@y"), Registered: true}
	if p.Criteria[1].Matches(q) || !p.Criteria[0].Matches(q) {
		t.Error("the part for unregistered users counts for a registered one, or one without a part does not")
	}
	q.Registered = false
	if !p.Criteria[1].Matches(q) {
		t.Error("the part for unregistered users does not count for one")
	}
	sets, broken, err := ifc.ParseSets("<SharedIFCsSets><SharedIFCsSet><SetID>7</SetID>" + named("s", "<Priority>1</Priority>") + named("x", "<Priority>-1</Priority>") +
		"</SharedIFCsSet><SharedIFCsSet><SetID>9</SetID></SharedIFCsSet></SharedIFCsSets>")
	if err != nil || len(broken) != 1 || len(sets) != 2 {
		t.Fatal(sets, broken, err)
	}
	all, unknown := p.Resolve(sets)
	if names(all) != "a b s c d" || !reflect.DeepEqual(unknown, []int{8}) || names(p.Criteria) != "a b c d" {
		t.Errorf("with shared sets %s, unknown %v", names(all), unknown)
	}
	fallback, broken, err := ifc.ParseFallback("<FallbackIFCsSet>" + named("f", "") + criterion("") + "</FallbackIFCsSet>")
	if err != nil || len(broken) != 1 || names(fallback) != "f" {
		t.Error(fallback, broken, err)
	}
	for _, bad := range []string{"<SharedIFCsSets><SharedIFCsSet/></SharedIFCsSets>", "<Other/>", "<", "<SharedIFCsSets><SharedIFCsSet><SetID>x</SetID></SharedIFCsSet></SharedIFCsSets>",
		"<SharedIFCsSets><SharedIFCsSet><SetID>1</SetID></SharedIFCsSet><SharedIFCsSet><SetID>1</SetID></SharedIFCsSet></SharedIFCsSets>"} {
		if _, _, err := ifc.ParseSets(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func names(criteria []ifc.Criterion) string {
	var out []string
	for _, c := range criteria {
		out = append(out, strings.TrimPrefix(c.Server.Name, "sip:"))
	}
	return strings.Join(out, " ")
}

func TestServerElement(t *testing.T) {
	p := parse(t, criterion("<ApplicationServer><ServerName> sip:as.test </ServerName><DefaultHandling>1</DefaultHandling><ServiceInfo>k=1</ServiceInfo><Extension><IncludeRegisterResponse/></Extension></ApplicationServer>"))
	if want := (ifc.Server{Name: "sip:as.test", Terminate: true, ServiceInfo: "k=1", Response: true}); p.Criteria[0].Server != want {
		t.Errorf("server %+v", p.Criteria[0].Server)
	}
}

// model is a condition whose truth the test knows by construction.
type model struct {
	xml     string
	truth   bool
	negated bool
	groups  []int
}

// draw makes a condition and works out by itself whether the message fulfils it.
func draw(t *rapid.T, m *sip.Message, q *ifc.Query) model {
	c := model{negated: rapid.Bool().Draw(t, "negated"), groups: rapid.SliceOfN(rapid.IntRange(0, 3), 1, 3).Draw(t, "groups")}
	word := rapid.SampledFrom([]string{"alice", "home", "tel", "audio", "nothing", "bob", "5070"}).Draw(t, "word")
	withContent := rapid.Bool().Draw(t, "content")
	content := ""
	if withContent {
		content = "<Content>" + word + "</Content>"
	}
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		method := rapid.SampledFrom([]string{"INVITE", "MESSAGE", "OPTIONS"}).Draw(t, "method")
		c.xml, c.truth = "<Method>"+method+"</Method>", method == m.Method
	case 1:
		c.xml = "<RequestURI>" + word + "</RequestURI>"
		c.truth = strings.Contains("home.test:5070", word)
	case 2:
		name := rapid.SampledFrom([]string{"From", "to", "P-ASSERTED-IDENTITY", "X-None"}).Draw(t, "header")
		c.xml = "<SIPHeader><Header>^" + name + "$</Header>" + content + "</SIPHeader>"
		for _, h := range m.Headers {
			if strings.EqualFold(h.Name, name) || name == "From" && h.Name == "f" {
				c.truth = c.truth || !withContent || strings.Contains(h.Value, word)
			}
		}
	case 3:
		n := rapid.IntRange(0, 4).Draw(t, "case")
		c.xml, c.truth = fmt.Sprintf("<SessionCase>%d</SessionCase>", n), int(q.Case) == n
	default:
		line := rapid.SampledFrom([]string{"m", "v", "z"}).Draw(t, "line")
		c.xml = "<SessionDescription><Line>" + line + "</Line>" + content + "</SessionDescription>"
		for _, l := range strings.Split(m.Body, "\r\n") {
			if strings.HasPrefix(l, line+"=") {
				c.truth = c.truth || !withContent || strings.Contains(l[2:], word)
			}
		}
	}
	return c
}

// bruteForce evaluates by the words of TS 29.228 annex B.2.2.
func bruteForce(cnf bool, conditions []model) bool {
	result := cnf
	for g := range 4 {
		or, and, used := false, true, false
		for _, c := range conditions {
			for _, mine := range c.groups {
				if mine == g {
					v := c.truth != c.negated
					or, and, used = or || v, and && v, true
				}
			}
		}
		switch {
		case used && cnf:
			result = result && or
		case used:
			result = result || and
		}
	}
	return result
}

func TestEqualsBruteForce(t *testing.T) {
	m := message(t, "sip:bob@home.test:5070")
	rapid.Check(t, func(t *rapid.T) {
		q := &ifc.Query{Msg: m.Clone(), Case: ifc.SessionCase(rapid.IntRange(0, 4).Draw(t, "session case")), Registered: rapid.Bool().Draw(t, "registered")}
		q.Msg.Method = rapid.SampledFrom([]string{"INVITE", "MESSAGE"}).Draw(t, "method of the message")
		type expected struct {
			priority, index int
			matches         bool
		}
		var text strings.Builder
		var want []expected
		for i := range rapid.IntRange(1, 4).Draw(t, "criteria") {
			cnf, part, priority := rapid.Bool().Draw(t, "cnf"), rapid.IntRange(-1, 1).Draw(t, "part"), rapid.IntRange(0, 2).Draw(t, "priority")
			inner := fmt.Sprintf("<Priority>%d</Priority><ApplicationServer><ServerName>sip:%d</ServerName></ApplicationServer>", priority, i)
			e := expected{priority, i, true}
			if rapid.IntRange(0, 9).Draw(t, "trigger") > 0 {
				var conditions []model
				inner += "<TriggerPoint><ConditionTypeCNF>" + map[bool]string{true: "1", false: "0"}[cnf] + "</ConditionTypeCNF>"
				for range rapid.IntRange(1, 5).Draw(t, "conditions") {
					c := draw(t, q.Msg, q)
					conditions = append(conditions, c)
					inner += "<SPT><ConditionNegated>" + map[bool]string{true: "1", false: "0"}[c.negated] + "</ConditionNegated>"
					for _, g := range c.groups {
						inner += fmt.Sprintf("<Group>%d</Group>", g)
					}
					inner += c.xml + "</SPT>"
				}
				inner += "</TriggerPoint>"
				e.matches = bruteForce(cnf, conditions)
			}
			if part >= 0 {
				inner += fmt.Sprintf("<ProfilePartIndicator>%d</ProfilePartIndicator>", part)
				e.matches = e.matches && q.Registered == (part == 0)
			}
			text.WriteString(criterion(inner))
			want = append(want, e)
		}
		var order []string
		for priority := range 3 {
			for _, e := range want {
				if e.priority == priority && e.matches {
					order = append(order, fmt.Sprint(e.index))
				}
			}
		}
		p, err := ifc.ParseProfile("<ServiceProfile>" + text.String() + "</ServiceProfile>")
		if err != nil || len(p.Broken) > 0 {
			t.Fatal(err, p.Broken)
		}
		var got []string
		for i := ifc.Next(p.Criteria, 0, q); i >= 0; i = ifc.Next(p.Criteria, i+1, q) {
			got = append(got, strings.TrimPrefix(p.Criteria[i].Server.Name, "sip:"))
		}
		if !reflect.DeepEqual(got, order) {
			t.Fatalf("visits %v, want %v of\n%s", got, order, text.String())
		}
	})
}

func FuzzPrintParse(f *testing.F) {
	f.Add("<ServiceProfile>" + criterion(trigger("1", "<Group>0</Group><Group>1</Group><ConditionNegated>1</ConditionNegated><SIPHeader><Header>X</Header><Content> a&lt;[]^]{1,2} </Content></SIPHeader>")) + "</ServiceProfile>")
	f.Add("<ServiceProfile>" + criterion(trigger("0", "<Group>2</Group><Method>REGISTER</Method><Extension><RegistrationType>1</RegistrationType></Extension>", "<Group>0</Group><SessionDescription><Line>m</Line></SessionDescription>")) + "</ServiceProfile>")
	f.Add("<ServiceProfile>" + criterion("<Priority>5</Priority>"+server+"<ProfilePartIndicator>0</ProfilePartIndicator>") + "</ServiceProfile>")
	f.Add("<ServiceProfile>" + criterion(trigger("0", "<Group>1</Group><RequestURI>(a|\\.)*$</RequestURI>", "<Group>1</Group><SessionCase>4</SessionCase>")) + "</ServiceProfile>")
	m := message(f, "sip:bob@home.test:5070")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ifc.ParseProfile(text)
		if err != nil {
			return
		}
		for i := range p.Criteria {
			c := &p.Criteria[i]
			again, err := ifc.ParseProfile("<ServiceProfile>" + c.XML() + "</ServiceProfile>")
			if err != nil || len(again.Broken) > 0 || len(again.Criteria) != 1 {
				t.Fatalf("%s does not parse: %v %v", c.XML(), err, again.Broken)
			}
			if !reflect.DeepEqual(*c, again.Criteria[0]) {
				t.Fatalf("%s prints as %s", c.XML(), again.Criteria[0].XML())
			}
			q := &ifc.Query{Msg: m}
			if c.Matches(q) != again.Criteria[0].Matches(q) {
				t.Fatalf("%s matches otherwise when it is read again", c.XML())
			}
		}
	})
}
