package subscriber_test

import (
	"errors"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
)

func alias(group string) string {
	return "<Extension><Extension><Extension><AliasIdentityGroupID>" + group + "</AliasIdentityGroupID></Extension></Extension></Extension>"
}

func criterion(priority, server string) string {
	return "<InitialFilterCriteria><Priority>" + priority + "</Priority><ApplicationServer><ServerName>" + server + "</ServerName></ApplicationServer></InitialFilterCriteria>"
}

const start = `<IMSSubscription xmlns="urn:x"><PrivateID>p</PrivateID>`

func TestCriteriaOfEachIdentity(t *testing.T) {
	p, err := subscriber.Parse(start +
		"<ServiceProfile><PublicIdentity><BarringIndication>1</BarringIndication><Identity>tel:+1-555</Identity></PublicIdentity>" + criterion("2", "sip:b") + criterion("x", "sip:broken") + criterion("1", "sip:a") + "</ServiceProfile>" +
		"<ServiceProfile><PublicIdentity><Identity> sip:A@B.test </Identity>" + alias("g1") + "</PublicIdentity><PublicIdentity><Identity>sip:c@b.test</Identity>" + alias("g1") + "</PublicIdentity>" +
		"<PublicIdentity><Identity>sip:d@b.test</Identity>" + alias("g2") + "</PublicIdentity><Extension><SharedIFCSetID>4</SharedIFCSetID></Extension></ServiceProfile></IMSSubscription>")
	if err != nil {
		t.Fatal(err)
	}
	number, ok := p.Find("tel:+1555")
	if list := p.Criteria(number); !ok || !number.Barred || len(list.Criteria) != 2 || list.Criteria[0].Server.Name != "sip:a" || len(list.Broken) != 1 {
		t.Errorf("criteria of the number: %+v", list)
	}
	a, _ := p.Default()
	if list := p.Criteria(a); a.Key != "sip:A@b.test" || len(list.Criteria) != 0 || len(list.Shared) != 1 || list.Shared[0] != 4 {
		t.Errorf("criteria of %s: %+v", a.Key, list)
	}
	c, _ := p.Find("sip:c@b.test")
	d, _ := p.Find("sip:d@b.test")
	if !p.Aliases(a, c) || p.Aliases(a, d) || p.Aliases(a, number) || !p.Aliases(d, d) {
		t.Error("aliases are wrong")
	}
	if got := p.Unbarred(); len(got) != 3 || got[0] != "sip:A@B.test" {
		t.Errorf("unbarred: %q", got)
	}
}

func TestInvalid(t *testing.T) {
	for _, text := range []string{"", "<a/>", start + "</IMSSubscription>", start + "<ServiceProfile><PublicIdentity><Identity>nobody</Identity></PublicIdentity></ServiceProfile></IMSSubscription>"} {
		if _, err := subscriber.Parse(text); !errors.Is(err, subscriber.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCacheSharesAndStartsAfresh(t *testing.T) {
	text := func(user string) string {
		return start + "<ServiceProfile><PublicIdentity><Identity>sip:" + user + "@b</Identity></PublicIdentity></ServiceProfile></IMSSubscription>"
	}
	c := subscriber.Cache{Size: 2}
	first, err := c.Parse(text("a"))
	again, _ := c.Parse(text("a"))
	if err != nil || first != again {
		t.Error("a known document is parsed again")
	}
	_, _ = c.Parse(text("b"))
	_, _ = c.Parse(text("c")) // one too many
	if other, _ := c.Parse(text("a")); other == first {
		t.Error("the cache grows without bound")
	}
	if _, err := c.Parse("rubbish"); err == nil {
		t.Error("rubbish is taken")
	}
}
