package rph_test

import (
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/rph"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

const document = `{"priority_blocks":[{"priority":1,"rph_values":["dsn.routine","custom.low"]},{"priority":15,"rph_values":["ets.0","WPS.0"]},{"priority":7,"rph_values":[]}]}`

func TestPriority(t *testing.T) {
	table, err := rph.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	for values, want := range map[string]int{
		"": 0, "ets.0": 15, "ETS.0": 15, "wps.0": 15, "ets.1": 0, "dsn.routine": 1, "custom.low": 1, "unknown.x, dsn.routine": 1,
		"dsn.routine, ets.0": 15, "dsn.routine|ets.0": 15, "ets": 0, ",": 0,
	} {
		m := &sip.Message{Method: sip.INVITE, URI: "sip:a@b"}
		for v := range strings.SplitSeq(values, "|") {
			if v != "" {
				m.Add(sip.ResourcePriority, v)
			}
		}
		if got := table.Priority(m); got != want {
			t.Errorf("%q has priority %d, want %d", values, got, want)
		}
	}
	m := &sip.Message{Method: sip.INVITE}
	m.Add(sip.ResourcePriority, "ets.0")
	empty, err := rph.Parse("")
	if err != nil || empty.Priority(m) != 0 || (*rph.Table)(nil).Priority(m) != 0 {
		t.Errorf("without a document nobody has a priority: %v", err)
	}
}

func TestDocumentsThatAreWrong(t *testing.T) {
	for text, want := range map[string]string{
		"{":                                    "reading rph.json",
		`{"priority_blocks":[{"priority":0}]}`: "block 1",
		`{"priority_blocks":[{"priority":16,"rph_values":["a"]},{"priority":-1}]}`:                           "block 2",
		`{"priority_blocks":[{"priority":1,"rph_values":["a.b"]},{"priority":2,"rph_values":["A.B"]}]}`:      `"a.b" has priority 1`,
		`{"priority_blocks":[{"priority":"high","rph_values":["a.b"]},{"priority":2,"rph_values":["A.B"]}]}`: "reading rph.json",
	} {
		if _, err := rph.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
