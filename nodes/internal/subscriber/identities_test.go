package subscriber

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func set(identities ...string) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0"?><IMSSubscription xmlns="urn:x"><PrivateID>p</PrivateID>`)
	for _, id := range identities {
		uri, barred, _ := strings.Cut(id, " ")
		fmt.Fprintf(&b, "<ServiceProfile><PublicIdentity><BarringIndication>%s</BarringIndication><Identity> %s </Identity></PublicIdentity></ServiceProfile>", barred, uri)
	}
	return b.String() + "</IMSSubscription>"
}

func TestIdentities(t *testing.T) {
	for name, c := range map[string]struct {
		identities []string
		first      string // "" when all are barred
		unbarred   string
	}{
		"one":                  {[]string{"sip:a@x"}, "sip:a@x", "sip:a@x"},
		"sip before tel":       {[]string{"tel:+1", "sip:a@x"}, "sip:a@x", "sip:a@x tel:+1"},
		"first sip is barred":  {[]string{"sip:b@x 1", "tel:+1", "sip:a@x 0"}, "sip:a@x", "sip:a@x tel:+1"},
		"barred as a word":     {[]string{"sip:b@x true", "sip:a@x false"}, "sip:a@x", "sip:a@x"},
		"only tel":             {[]string{"tel:+1 1", "tel:+2"}, "tel:+2", "tel:+2"},
		"all barred":           {[]string{"sip:a@x 1", "tel:+1 1"}, "", ""},
		"case and separators":  {[]string{"sip:A@X.Test", "tel:+1-2"}, "sip:A@x.test", "sip:A@X.Test tel:+1-2"},
		"sips counts as a sip": {[]string{"tel:+1", "sips:a@x"}, "sips:a@x", "sips:a@x tel:+1"},
	} {
		p, err := Parse(set(c.identities...))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		main, ok := p.Default()
		if main.Key != c.first || ok != (c.first != "") || strings.Join(p.Unbarred(), " ") != c.unbarred {
			t.Errorf("%s: default %s, unbarred %q", name, main.Key, p.Unbarred())
		}
		for _, id := range p.Identities {
			if found, ok := p.Find(id.Key); !ok || found.URI != id.URI {
				t.Errorf("%s: %s is not found", name, id.Key)
			}
		}
		if _, ok := p.Find("sip:nobody@x"); ok {
			t.Errorf("%s: a stranger is found", name)
		}
	}
}

func TestDocumentsThatAreWrong(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "no XML": "{}", "cut": set("sip:a@x")[:80], "another document": "<simservs/>", "nobody": set(), "no URI": set("nonsense"),
	} {
		if p, err := Parse(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
		if p, err := (&Cache{Size: 1}).Parse(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s by the cache: %v, %v", name, p, err)
		}
	}
}

func TestCache(t *testing.T) {
	c := &Cache{Size: 3}
	first, _ := c.Parse(set("sip:a@x"))
	if again, _ := c.Parse(set("sip:a@x")); again != first {
		t.Error("read twice")
	}
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for n := range 200 {
				want := fmt.Sprintf("sip:%d@x", (n*i)%5)
				if p, err := c.Parse(set(want)); err != nil || p.Identities[0].Key != want {
					t.Errorf("%v, %v, want %s", p, err, want)
				}
			}
		})
	}
	group.Wait()
	if len(c.known) > c.Size {
		t.Errorf("%d documents are kept, at most %d", len(c.known), c.Size)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(set("sip:a@x", "tel:+1 1"))
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		main, ok := p.Default()
		if list := p.Unbarred(); ok && (len(list) == 0 || list[0] != main.URI) || !ok && len(list) != 0 {
			t.Errorf("default %v, unbarred %q", main, list)
		}
	})
}
