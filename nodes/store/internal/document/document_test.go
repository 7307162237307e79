package document_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/document"
)

func local() *config.Options {
	o := config.Defaults()
	o.Role, o.DeploymentID, o.Zone, o.PublicHostname = config.Store, "lab", "lab.example.com", "store-1.site1"
	o.LocalIP, o.PublicIP = "127.0.0.1", "127.0.0.1"
	return o
}

const criterion = `<InitialFilterCriteria><Priority>1</Priority><TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF><SPT><ConditionNegated>0</ConditionNegated>` +
	`<Group>0</Group><Method>INVITE</Method></SPT></TriggerPoint><ApplicationServer><ServerName>sip:as.example.com</ServerName><DefaultHandling>0</DefaultHandling></ApplicationServer></InitialFilterCriteria>`

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		typ, text, old string
		says           string // "" = valid
		warnings       int
	}{
		"shared":                    {"shared_config", "home_domain=example.com\n", "", "", 0},
		"shared with comments":      {"shared_config", "# x\nhome_domain=\"example.com\" # y\n", "", "", 0},
		"shared, unknown option":    {"shared_config", "home_domain=example.com\nhome_domian=x\n", "", "", 1},
		"shared, empty":             {"shared_config", "", "", "home_domain", 0},
		"shared, not a line":        {"shared_config", "home_domain=example.com\nnonsense\n", "", "name=value", 0},
		"shared, range":             {"shared_config", "home_domain=example.com\ndefault_session_expires=89\n", "", "from 90", 0},
		"shared, local option":      {"shared_config", "home_domain=example.com\nlocal_ip=127.0.0.1\n", "", "only in local_config", 0},
		"home domain stays":         {"shared_config", "home_domain=example.com\nreg_max_expires=60\n", "home_domain=example.com\n", "", 0},
		"home domain changes":       {"shared_config", "home_domain=example.org\n", "home_domain=example.com\n", "cannot be changed", 0},
		"home domain behind errors": {"shared_config", "home_domain=example.org\n", "nonsense\n export home_domain = example.com\n", "cannot be changed", 0},

		"bgcf":                {"bgcf_json", `{"routes":[{"name":"a","domain":"*","route":["<sip:x;lr>","sip:y"]},{"number":"+1","route":["sip:z"]}]}`, "", "", 0},
		"bgcf, no routes":     {"bgcf_json", `{"routes":[]}`, "", "", 0},
		"bgcf, other object":  {"bgcf_json", `{"route":[]}`, "", "routes is missing", 0},
		"bgcf, both":          {"bgcf_json", `{"routes":[{"name":"n","domain":"d","number":"+1","route":["sip:x"]}]}`, "", `routes[0] (n): it has both domain "d" and number "+1"`, 0},
		"bgcf, neither":       {"bgcf_json", `{"routes":[{"route":["sip:x"]}]}`, "", "neither", 0},
		"bgcf, no route":      {"bgcf_json", `{"routes":[{"domain":"d","route":[]}]}`, "", "route is empty", 0},
		"bgcf, not a URI":     {"bgcf_json", `{"routes":[{"domain":"d","route":["http://x"]}]}`, "", `route "http://x"`, 0},
		"bgcf, not a number":  {"bgcf_json", `{"routes":[{"number":"abz","route":["sip:x"]}]}`, "", `number "abz"`, 0},
		"bgcf, text in route": {"bgcf_json", "{\"routes\":[\n{\"domain\":\"d\",\"route\":\"sip:x\"}]}", "", "line 2: routes.route must be a JSON array, not a string", 0},
		"bgcf, syntax":        {"bgcf_json", "{\n\"routes\": [}\n", "", "line 2", 0},
		"bgcf, cut off":       {"bgcf_json", `{"routes":[`, "", "ends too early", 0},
		"bgcf, removed":       {"bgcf_json", ``, "", "", 0},
		"bgcf, more":          {"bgcf_json", `{"routes":[]}{}`, "", "more after", 0},

		"scscf":             {"scscf_json", `{"s-cscfs":[{"server":"sip:s:5054;transport=TCP","priority":0,"weight":100,"capabilities":[1]}]}`, "", "", 0},
		"scscf, server":     {"scscf_json", `{"s-cscfs":[{"server":"s","priority":0,"weight":1}]}`, "", "server", 0},
		"scscf, weight":     {"scscf_json", `{"s-cscfs":[{"server":"sip:s","priority":0}]}`, "", "weight", 0},
		"enum":              {"enum_json", `{"number_blocks":[{"name":"n","prefix":"+1","regex":"!(^.*$)!sip:\\1@example.com!"}]}`, "", "", 0},
		"enum, regex":       {"enum_json", `{"number_blocks":[{"prefix":"+1","regex":"!(!x!"}]}`, "", "regular expression", 0},
		"enum, form":        {"enum_json", `{"number_blocks":[{"prefix":"+1","regex":"!a!"}]}`, "", "!pattern!replacement!", 0},
		"rph":               {"rph_json", `{"priority_blocks":[{"priority":1,"rph_values":["wps.0"]}]}`, "", "", 0},
		"rph, priority":     {"rph_json", `{"priority_blocks":[{"priority":16,"rph_values":[]}]}`, "", "1 to 15", 0},
		"rph, twice":        {"rph_json", `{"priority_blocks":[{"priority":1,"rph_values":["a"]},{"priority":2,"rph_values":["A"]}]}`, "", "as well", 0},
		"dns":               {"dns_json", `{"hostnames":[{"name":"a.example.com","records":[{"rrtype":"CNAME","target":"b.example.com"}]}]}`, "", "", 0},
		"dns, not JSON":     {"dns_json", `x`, "", "dns_json", 0},
		"sas":               {"sas_json", `{}`, "", "", 0},
		"sas, array":        {"sas_json", `[]`, "", "must be a JSON object", 0},
		"ifcs":              {"shared_ifcs", `<?xml version="1.0"?><SharedIFCsSets></SharedIFCsSets>`, "", "", 0},
		"ifcs, other root":  {"fallback_ifcs", `<SharedIFCsSets></SharedIFCsSets>`, "", "wanted is FallbackIFCsSet", 0},
		"ifcs, criterion":   {"shared_ifcs", `<SharedIFCsSets><SharedIFCsSet><SetID>4</SetID><InitialFilterCriteria/></SharedIFCsSet></SharedIFCsSets>`, "", "set 4: criterion 1", 0},
		"ifcs, not closed":  {"fallback_ifcs", `<a><b></a>`, "", "not XML", 0},
		"ifcs, no element":  {"fallback_ifcs", `text`, "", "no XML element", 0},
		"ifcs, whole":       {"fallback_ifcs", "<FallbackIFCsSet>" + criterion + "</FallbackIFCsSet>", "", "", 0},
		"ifcs, misspelled":  {"fallback_ifcs", "<FallbackIFCsSet>\n" + strings.ReplaceAll(criterion, "DefaultHandling", "DefaultHandlin") + "</FallbackIFCsSet>", "", "line 2: DefaultHandlin may not stand in ApplicationServer, allowed are ServerName", 0},
		"ifcs, in text":     {"fallback_ifcs", "<FallbackIFCsSet>" + strings.ReplaceAll(criterion, "INVITE", "<b>INVITE</b>") + "</FallbackIFCsSet>", "", "b may not stand in Method, which holds text", 0},
		"ifcs, no CNF":      {"fallback_ifcs", "<FallbackIFCsSet>" + strings.ReplaceAll(criterion, "<ConditionTypeCNF>1</ConditionTypeCNF>", "") + "</FallbackIFCsSet>", "", "ConditionTypeCNF", 0},
		"ifcs, no priority": {"fallback_ifcs", "<FallbackIFCsSet>" + strings.ReplaceAll(criterion, "<Priority>1</Priority>", "") + "</FallbackIFCsSet>", "", "has 0 Priority, allowed is 1", 0},
		"ifcs, two servers": {"fallback_ifcs", "<FallbackIFCsSet>" + strings.ReplaceAll(criterion, "</SPT>", "</SPT><SPT><Group>0</Group></SPT>") + "</FallbackIFCsSet>", "", "exactly one of", 0},
		"ifcs, extension":   {"fallback_ifcs", "<FallbackIFCsSet>" + strings.ReplaceAll(criterion, "</ApplicationServer>", "<Extension><X><Y/></X></Extension></ApplicationServer>") + "</FallbackIFCsSet>", "", "", 0},
		"ifcs, twice":       {"fallback_ifcs", "<FallbackIFCsSet>" + strings.ReplaceAll(criterion, "<DefaultHandling>0</DefaultHandling>", "<DefaultHandling>0</DefaultHandling><DefaultHandling>0</DefaultHandling>") + "</FallbackIFCsSet>", "", "2 DefaultHandling", 0},
		"too large":         {"sas_json", `{"x":"` + strings.Repeat("x", document.MaxText) + `"}`, "", "allowed are 1048576", 0},
		"scscf, not a list": {"scscf_json", `{"s-cscfs":{}}`, "", "s-cscfs must be a JSON array", 0},
	} {
		t.Run(name, func(t *testing.T) {
			warnings, err := document.Validate(c.typ, c.text, c.old, local())
			switch {
			case c.says == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("error %v, want one with %q", err, c.says)
			}
			if len(warnings) != c.warnings {
				t.Errorf("warnings %q, want %d", warnings, c.warnings)
			}
		})
	}
}

func TestDiffHidesKeys(t *testing.T) {
	got := fmt.Sprint(document.Diff("a=1\nnonce_key=old\nb=2\n", "a=1\nnonce_key=new\nb=3\n"))
	if got != "[-nonce_key=(hidden) -b=2 +nonce_key=(hidden) +b=3]" {
		t.Errorf("diff %s", got)
	}
}

func FuzzValidate(f *testing.F) {
	f.Add("bgcf_json", `{"routes":[{"domain":"*","route":["sip:x"]}]}`)
	f.Add("shared_config", "home_domain=example.com")
	f.Add("enum_json", `{"number_blocks":[{"prefix":"+1","regex":"!(^.*$)!sip:\\1@e!"}]}`)
	o := local()
	f.Fuzz(func(_ *testing.T, typ, text string) { _, _ = document.Validate(typ, text, "home_domain=a", o) })
}
