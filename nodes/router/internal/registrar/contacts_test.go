package registrar

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

const longest = 300 * time.Second

func register(t *testing.T, headers ...string) *sip.Message {
	t.Helper()
	text := "REGISTER sip:ims.test SIP/2.0\r\nVia: SIP/2.0/TCP x.test;branch=z9hG4bK1\r\nFrom: <sip:a@ims.test>;tag=1\r\nTo: <sip:a@ims.test>\r\n" +
		"Call-ID: c\r\nCSeq: 7 REGISTER\r\n" + strings.Join(append(headers, ""), "\r\n") + "Content-Length: 0\r\n\r\n"
	m, err := sip.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return m
}

// The expires parameter beats the header, neither means the longest, and none lasts longer (RFC 3261 10.2.1.1, 10.3).
func TestLifetime(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		contact, header string
		want            time.Duration // 0: removed
	}{
		{"<sip:a@b>", "", longest},
		{"<sip:a@b>", "Expires: 60", time.Minute},
		{"<sip:a@b>;expires=30", "Expires: 60", 30 * time.Second},
		{"<sip:a@b>;expires=30", "Expires: 0", 30 * time.Second},
		{"<sip:a@b>;expires=0", "Expires: 60", 0},
		{"<sip:a@b>", "Expires: 0", 0},
		{"<sip:a@b>;expires=301", "", longest},
		{"<sip:a@b>;expires=4294967295", "", longest},
		{"<sip:a@b>;expires=99999999999", "Expires: 60", time.Minute}, // malformed: as if absent
		{"<sip:a@b>;expires=soon", "Expires: 60", time.Minute},
		{"<sip:a@b>;expires=-1", "", longest},
		{"<sip:a@b>;expires=1", "", time.Second}, // there is no minimum, hence no 423
	} {
		headers := []string{"Contact: " + c.contact}
		if c.header != "" {
			headers = append(headers, c.header)
		}
		got, err := readContacts(register(t, headers...), "a@ims.test", now, longest)
		switch {
		case err != nil:
			t.Errorf("%v: %v", c, err)
		case c.want == 0 && (len(got.add) != 0 || len(got.remove) != 1):
			t.Errorf("%v: added %v, removed %v", c, got.add, got.remove)
		case c.want != 0 && (len(got.add) != 1 || got.add[0].GetExpiresAt() != now.Add(c.want).UnixMilli()):
			t.Errorf("%v: added %v", c, got.add)
		}
	}
}

func TestReadContacts(t *testing.T) {
	got, err := readContacts(register(t,
		`Contact: "A" <sip:a@b:5062;ob>;q=0.25;+sip.instance="<urn:uuid:1>";reg-id=2;expires=60;video, <sip:a@c>;q=2`,
		"Contact: <sip:a@c>;q=0.1", "Path: <sip:p1;lr>", "Path: <sip:p2;lr>", "Contact: <sip:911@d;sos>"), "a@ims.test", time.Unix(0, 0), longest)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, b := range got.add {
		out = append(out, fmt.Sprintf("%s|%s|%s|%d|%v|%s|%d|%s", b.GetId(), b.GetUri(), b.GetParams(), b.GetQ(), b.GetPath(), b.GetCallId(), b.GetCseq(), b.GetImpi()))
	}
	const rest = "|[<sip:p1;lr> <sip:p2;lr>]|c|7|a@ims.test"
	want := []string{
		`<urn:uuid:1>:2|sip:a@b:5062;ob|;+sip.instance="<urn:uuid:1>";reg-id=2;video|250` + rest,
		"sip:a@c|sip:a@c||100" + rest, // the last of two with one id
		"sossip:911@d;sos|sip:911@d;sos||1000" + rest,
	}
	if strings.Join(out, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(out, "\n"), strings.Join(want, "\n"))
	}
	if !got.emergency {
		t.Error("the emergency contact is not seen")
	}
}

func TestContactsThatAreWrong(t *testing.T) {
	many := make([]string, maxContacts+1)
	for i := range many {
		many[i] = fmt.Sprintf("Contact: <sip:a@h%d>", i)
	}
	for name, headers := range map[string][]string{
		"star and another": {"Contact: *", "Contact: <sip:a@b>", "Expires: 0"}, "star that lasts": {"Contact: *", "Expires: 1"}, "star alone": {"Contact: *"},
		"no URI": {"Contact: <nonsense>"}, "too many": many,
	} {
		if _, err := readContacts(register(t, headers...), "", time.Unix(0, 0), longest); !errors.Is(err, errContact) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNormalised(t *testing.T) {
	for text, want := range map[string]string{
		"SIP:a@B.Test":            "sip:a@b.test",
		"sip:a@B.Test:5060":       "sip:a@b.test:5060",
		"sip:B.Test:5060":         "sip:b.test:5060",
		"sips:%61%20b@x":          "sips:a%20b@x",
		"sip:a@[2001:DB8::1]:70":  "sip:a@[2001:db8::1]:70",
		"sip:a@b;Z=1;lr;Aa=B":     "sip:a@b;aa=b;lr;z=1",
		"sip:a@b?Subject=x&b=1":   "sip:a@b?Subject=x&b=1",
		"sip:a@b;x?b=1&a=2":       "sip:a@b;x?a=2&b=1",
		"tel:+1-555":              "tel:+1-555",
		"sip:a:secret@b":          "sip:a:secret@b",
		"sip:1;phone-context=x@b": "sip:1;phone-context=x@b",
	} {
		u, err := sip.ParseURI(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := normalised(u); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func TestQuality(t *testing.T) {
	for params, want := range map[string]uint32{"": 1000, ";q=0": 0, ";q=0.5": 500, ";q=1.0": 1000, ";q=1.1": 1000, ";q=-1": 1000, ";q=x": 1000, ";q=NaN": 1000, ";q=0.123": 123} {
		if got := qualityOf(params); got != want {
			t.Errorf("%q: %d, want %d", params, got, want)
		}
	}
}

func TestDeregisters(t *testing.T) {
	for want, list := range map[bool][][]string{
		true:  {{"Contact: *", "Expires: 0"}, {"Contact: <sip:a@b>", "Expires: 0"}, {"Contact: <sip:a@b>;expires=0"}},
		false: {{}, {"Contact: <sip:a@b>"}, {"Contact: <sip:a@b>;expires=0", "Contact: <sip:a@c>"}, {"Contact: <sip:a@b>;expires=9", "Expires: 0"}},
	} {
		for _, headers := range list {
			if deregisters(register(t, headers...)) != want {
				t.Errorf("%q: want %v", headers, want)
			}
		}
	}
}

func TestQuestion(t *testing.T) {
	for name, c := range map[string]struct {
		headers            []string
		impi, visited, typ string
	}{
		"bare":       {nil, "a@ims.test", "ims.test", "REG"},
		"credential": {[]string{`Authorization: Digest username="1234"`, `P-Visited-Network-ID: "visited.test"`, "Contact: <sip:a@b>;expires=0"}, "1234", "visited.test", "DEREG"},
	} {
		q, err := Question(register(t, c.headers...), "ims.test")
		if err != nil || q.GetImpi() != c.impi || q.GetVisitedNetwork() != c.visited || q.GetAuthType() != c.typ || q.GetImpu() != "sip:a@ims.test" {
			t.Errorf("%s: %v, %v", name, q, err)
		}
	}
	if q, err := Question(register(t, "Authorization: Basic x"), "ims.test"); err == nil {
		t.Errorf("asks %v", q)
	}
}
