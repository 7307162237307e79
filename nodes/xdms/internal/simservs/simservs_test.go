package simservs_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/api/xdms"
	"github.com/clearwater-ims/clearwater/nodes/xdms/internal/simservs"
)

const open = `<simservs xmlns="http://uri.etsi.org/ngn/params/xml/simservs/xcap" xmlns:cp="urn:ietf:params:xml:ns:common-policy">`

func cdiv(inner string) string {
	return open + `<communication-diversion active="true">` + inner + `</communication-diversion></simservs>`
}

func cdivRule(conditions, actions string) string {
	return cdiv(`<cp:ruleset><cp:rule id="r1"><cp:conditions>` + conditions + `</cp:conditions><cp:actions>` + actions + `</cp:actions></cp:rule></cp:ruleset>`)
}

func TestAccepts(t *testing.T) {
	for name, document := range map[string]string{
		"default":    xdms.DefaultSimservs,
		"empty":      open + `</simservs>`,
		"prefixed":   `<?xml version="1.0"?><x:simservs xmlns:x="http://uri.etsi.org/ngn/params/xml/simservs/xcap"><x:communication-waiting active="0"/></x:simservs>`,
		"timer low":  cdiv(`<NoReplyTimer> 5 </NoReplyTimer>`),
		"timer high": cdiv(`<NoReplyTimer>180</NoReplyTimer>`),
		"forward":    cdivRule(`<busy/><media>audio</media>`, `<forward-to><target>tel:+16505550000</target><notify-caller>false</notify-caller></forward-to>`),
		"foreign":    cdivRule(`<o:external-list xmlns:o="urn:oma:xml:xdm:common-policy"><o:entry/></o:external-list>`, `<forward-to><target>sip:a@b</target></forward-to>`),
		"validity": cdivRule(`<cp:validity><cp:from>2026-01-01T00:00:00Z</cp:from><cp:until>2026-02-01T00:00:00+01:00</cp:until></cp:validity>`,
			`<forward-to><target>sip:a@b</target></forward-to>`),
		"extensions": open + `<extensions><anything xmlns="urn:x">goes</anything></extensions></simservs>`,
		"serv-cap":   open + `<communication-diversion-serv-cap active="true"><x/></communication-diversion-serv-cap></simservs>`,
		"comment":    open + `<!-- a comment --><?pi data?></simservs>`,
	} {
		if err := simservs.Validate([]byte(document)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefuses(t *testing.T) {
	target := `<forward-to><target>sip:a@b</target></forward-to>`
	for name, c := range map[string]struct{ document, says string }{
		"empty":             {"", "no document element"},
		"text":              {"hello", "text outside"},
		"broken":            {open, "unexpected EOF"},
		"mismatched":        {open + "</other>", "closed by"},
		"two roots":         {open + "</simservs>" + open + "</simservs>", "second document element"},
		"other root":        {`<ServiceProfile/>`, "must be simservs"},
		"no namespace":      {`<simservs/>`, "must be simservs"},
		"unknown service":   {open + `<free-beer active="true"/></simservs>`, "free-beer"},
		"active maybe":      {open + `<originating-identity-presentation active="maybe"/></simservs>`, "true, false"},
		"unknown attribute": {open + `<originating-identity-presentation aktive="true"/></simservs>`, "aktive"},
		"behaviour":         {open + `<originating-identity-presentation-restriction><default-behaviour>hide</default-behaviour></originating-identity-presentation-restriction></simservs>`, "presentation-restricted"},
		"timer 4":           {cdiv(`<NoReplyTimer>4</NoReplyTimer>`), "5 to 180"},
		"timer 181":         {cdiv(`<NoReplyTimer>181</NoReplyTimer>`), "5 to 180"},
		"timer text":        {cdiv(`<NoReplyTimer>soon</NoReplyTimer>`), "5 to 180"},
		"timer twice":       {cdiv(`<NoReplyTimer>5</NoReplyTimer><NoReplyTimer>6</NoReplyTimer>`), "only once"},
		"no target":         {cdivRule("", `<forward-to><notify-caller>true</notify-caller></forward-to>`), "target is missing"},
		"empty target":      {cdivRule("", `<forward-to><target></target></forward-to>`), "a URI"},
		"bad target":        {cdivRule("", `<forward-to><target>sip:a b</target></forward-to>`), "a URI"},
		"unknown condition": {cdivRule(`<when-it-rains/>`, target), "when-it-rains"},
		"no id":             {cdiv(`<cp:ruleset><cp:rule><cp:actions/></cp:rule></cp:ruleset>`), "id is missing"},
		"bad id":            {cdiv(`<cp:ruleset><cp:rule id="1 2"/></cp:ruleset>`), "letter"},
		"same id":           {cdiv(`<cp:ruleset><cp:rule id="a"/><cp:rule id="a"/></cp:ruleset>`), "twice"},
		"allow in cdiv":     {cdivRule("", `<allow>true</allow>`), "allow"},
		"stray text":        {cdivRule("hello", target), "not expected"},
		"rule namespace":    {cdiv(`<ruleset/>`), "not expected"},
		"entity bomb":       {`<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>` + open + `&b;</simservs>`, "entities are not allowed"},
		"external entity":   {`<!DOCTYPE x SYSTEM "file:///etc/passwd">` + open + `</simservs>`, "not allowed"},
		"undefined entity":  {open + `&bomb;</simservs>`, "entity"},
		"deep":              {open + strings.Repeat("<extensions>", 100), "deep"},
		"wide":              {open + strings.Repeat("<extensions/>", 5000) + "</simservs>", "elements"},
		"large":             {open + strings.Repeat(" ", simservs.MaxSize) + "</simservs>", "bytes"},
		"latin1":            {`<?xml version="1.0" encoding="ISO-8859-1"?>` + open + `</simservs>`, "not UTF-8"},
		"duplicate":         {open + `<originating-identity-presentation active="true" active="false"/></simservs>`, "twice"},
		"NUL":               {open + "\x00</simservs>", "illegal character"},
	} {
		err := simservs.Validate([]byte(c.document))
		if !errors.Is(err, simservs.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want a refusal with %q", name, err, c.says)
		}
	}
}

func FuzzValidate(f *testing.F) {
	f.Add([]byte(xdms.DefaultSimservs))
	f.Add([]byte(cdivRule(`<busy/>`, `<forward-to><target>sip:a@b</target></forward-to>`)))
	f.Fuzz(func(t *testing.T, document []byte) {
		if err := simservs.Validate(document); err != nil && !errors.Is(err, simservs.ErrInvalid) {
			t.Errorf("unexpected kind of error: %v", err)
		}
	})
}
