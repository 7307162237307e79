package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/httpapi"
)

func (d *double) DeregisterSilently(_ context.Context, aor, impi string) (*registrations.ApplyResponse, error) {
	d.asked <- strings.Join([]string{"deregister", aor, impi, "silently"}, " ")
	return &registrations.ApplyResponse{}, d.err
}

func (d *double) Refresh(_ context.Context, aor string, identities []string) error {
	d.asked <- "refresh " + aor + " to " + strings.Join(identities, " ")
	return d.err
}

func TestDeregistrationWithoutNotifications(t *testing.T) {
	d, _, deps := fresh()
	w := ask(t, httpapi.Signalling(deps), http.MethodDelete, "/registrations?send-notifications=false", `{"registrations":[{"primary-impu":"sip:a@ims.test","impi":"x"}]}`)
	if got := d.questions(); w.Code != 200 || got != "deregister sip:a@ims.test x silently" {
		t.Errorf("%d, asked %q", w.Code, got)
	}
}

func TestProfilePush(t *testing.T) {
	profile := func(identities ...string) string {
		text := "<IMSSubscription><PrivateID>a</PrivateID><ServiceProfile>"
		for _, id := range identities {
			barred := "0"
			if strings.HasPrefix(id, "!") {
				id, barred = id[1:], "1"
			}
			text += "<PublicIdentity><Identity>" + id + "</Identity><BarringIndication>" + barred + "</BarringIndication></PublicIdentity>"
		}
		out, _ := json.Marshal(map[string]string{"user-data-xml": text + "</ServiceProfile></IMSSubscription>"})
		return string(out)
	}
	for name, c := range map[string]struct {
		impu, body string
		err        error
		status     int
		asked      string
	}{
		"changed":     {"sip:a@IMS.test", profile("!sip:x@ims.test", "sip:a@ims.test", "tel:+2"), nil, 200, "refresh sip:a@ims.test to sip:a@ims.test tel:+2"},
		"store away":  {"sip:a@ims.test", profile("sip:a@ims.test"), errors.New("away"), 500, "refresh sip:a@ims.test to sip:a@ims.test"},
		"not default": {"tel:+2", profile("sip:a@ims.test", "tel:+2"), nil, 400, ""},
		"all barred":  {"sip:a@ims.test", profile("!sip:a@ims.test"), nil, 400, ""},
		"no profile":  {"sip:a@ims.test", `{"user-data-xml":"<x/>"}`, nil, 400, ""},
		"no XML":      {"sip:a@ims.test", `{"user-data-xml":"<"}`, nil, 400, ""},
		"empty":       {"sip:a@ims.test", "{}", nil, 400, ""},
		"no JSON":     {"sip:a@ims.test", "", nil, 400, ""},
	} {
		d, _, deps := fresh()
		d.err = c.err
		w := ask(t, httpapi.Signalling(deps), http.MethodPut, "/registrations/"+url.PathEscape(c.impu), c.body)
		if got := d.questions(); w.Code != c.status || got != c.asked {
			t.Errorf("%s: %d %s, asked %q; want %d and %q", name, w.Code, w.Body, got, c.status, c.asked)
		}
	}
	_, _, deps := fresh()
	if w := ask(t, httpapi.Signalling(deps), http.MethodGet, "/registrations/sip:a@ims.test", ""); w.Code != 405 {
		t.Errorf("GET: %d", w.Code)
	}
}

func TestSubscriptions(t *testing.T) {
	d, _, deps := fresh()
	h := httpapi.Management(deps)
	target := "/impu/" + url.PathEscape("sip:a@ims.test") + "/subscriptions"
	if w := ask(t, h, http.MethodGet, target, ""); w.Code != 404 {
		t.Errorf("none: %d", w.Code)
	}
	d.record = &registrations.Record{Aor: "sip:a@ims.test", Subscriptions: []*registrations.Subscription{{
		Id: "t", Target: "sip:w@1.2.3.4", Route: []string{"<sip:p;lr>"}, CallId: "c", Local: "<sip:a@ims.test>;tag=t", Remote: "W <sip:w@ims.test>;tag=f", ExpiresAt: 1_700_000_000_500,
	}}}
	w := ask(t, h, http.MethodGet, target, "")
	var got, want any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	_ = json.Unmarshal([]byte(`{"subscriptions":{"t":{"req_uri":"sip:w@1.2.3.4","from_uri":"sip:w@ims.test","from_tag":"f","to_uri":"sip:a@ims.test","to_tag":"t","cid":"c","routes":["<sip:p;lr>"],"expires":1700000000}}}`), &want)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	d.err = errors.New("away")
	if w := ask(t, h, http.MethodGet, target, ""); w.Code != 500 {
		t.Errorf("store away: %d", w.Code)
	}
}
