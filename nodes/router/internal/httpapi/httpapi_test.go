package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss/hsstest"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/background"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/httpapi"
)

// double is the registrar and the store; it notes what it is asked.
type double struct {
	asked  chan string
	record *registrations.Record
	err    error
}

func (d *double) Expire(_ context.Context, aor string) error {
	d.asked <- "expire " + aor
	return d.err
}

func (d *double) Deregister(_ context.Context, aor, impi string, tell bool) (*registrations.ApplyResponse, error) {
	who := "the HSS asked"
	if tell {
		who = "tell the HSS"
	}
	d.asked <- strings.Join([]string{"deregister", aor, impi, who}, " ")
	return &registrations.ApplyResponse{}, d.err
}

func (d *double) Get(_ context.Context, aor string) (*registrations.Record, error) {
	if d.record.GetAor() == aor {
		return d.record, d.err
	}
	return &registrations.Record{Aor: aor}, d.err
}

// questions are those so far.
func (d *double) questions() string {
	var out []string
	for len(d.asked) > 0 {
		out = append(out, <-d.asked)
	}
	return strings.Join(out, ", ")
}

func fresh() (*double, *hsstest.HSS, httpapi.Deps) {
	d := &double{asked: make(chan string, 10)}
	h := hsstest.New("ims.test", "sip:scscf.ims.test")
	h.Add("a@ims.test", "x", "sip:a@ims.test", "tel:+1")
	return d, h, httpapi.Deps{Registrar: d, Reader: d, HSS: h, Profiles: &subscriber.Cache{Size: 10}, Log: slog.New(slog.DiscardHandler), Background: background.New().Go}
}

func ask(t *testing.T, h http.Handler, method, target, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, strings.NewReader(body)))
	return w
}

func TestDeregistrationByTheHSS(t *testing.T) {
	const one = `{"registrations":[{"primary-impu":"sip:A@IMS.test","impi":"a@ims.test"},{"primary-impu":"sip:b@ims.test"}]}`
	for name, c := range map[string]struct {
		target, body string
		err          error
		status       int
		asked        string
	}{
		"two sets":          {"?send-notifications=true", one, nil, 200, "deregister sip:A@ims.test a@ims.test the HSS asked, deregister sip:b@ims.test  the HSS asked"},
		"silently":          {"?send-notifications=false", `{"registrations":[]}`, nil, 200, ""},
		"store away":        {"?send-notifications=true", one, errors.New("away"), 500, "deregister sip:A@ims.test a@ims.test the HSS asked, deregister sip:b@ims.test  the HSS asked"},
		"no parameter":      {"", one, nil, 400, ""},
		"wrong parameter":   {"?send-notifications=1", one, nil, 400, ""},
		"no body":           {"?send-notifications=true", "", nil, 400, ""},
		"no JSON":           {"?send-notifications=true", "<x/>", nil, 400, ""},
		"no list":           {"?send-notifications=true", "{}", nil, 400, ""},
		"no identity":       {"?send-notifications=true", `{"registrations":[{"impi":"a"}]}`, nil, 400, ""},
		"one of two is bad": {"?send-notifications=true", `{"registrations":[{"primary-impu":"sip:a@x"},{"primary-impu":"a b"}]}`, nil, 400, ""},
		"too long":          {"?send-notifications=true", `{"registrations":[` + strings.Repeat(" ", 2<<20) + `]}`, nil, 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, _, deps := fresh()
			d.err = c.err
			w := ask(t, httpapi.Signalling(deps), http.MethodDelete, "/registrations"+c.target, c.body)
			if got := d.questions(); w.Code != c.status || got != c.asked {
				t.Errorf("%d %s, asked %q; want %d and %q", w.Code, w.Body, got, c.status, c.asked)
			}
		})
	}
}

func TestTimers(t *testing.T) {
	d, _, deps := fresh()
	h := httpapi.Signalling(deps)
	for _, body := range []string{`{"aor_id":"sip:a@ims.test"}`, `{"aor_id":"sip:a@ims.test","binding_id":"x"}`} {
		if w := ask(t, h, http.MethodPost, "/timers", body); w.Code != 200 {
			t.Errorf("%s: %d", body, w.Code)
		}
		select {
		case got := <-d.asked:
			if got != "expire sip:a@ims.test" {
				t.Error(got)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("nothing expires")
		}
	}
	for _, body := range []string{"", "{}", "[]", `{"aor_id":7}`} {
		if w := ask(t, h, http.MethodPost, "/timers", body); w.Code != 400 {
			t.Errorf("%q: %d", body, w.Code)
		}
	}
}

func TestMethodsAndPlaces(t *testing.T) {
	_, _, deps := fresh()
	for _, c := range []struct {
		h              http.Handler
		method, target string
		want           int
	}{
		{httpapi.Signalling(deps), "GET", "/ping", 200}, {httpapi.Management(deps), "GET", "/ping", 200},
		{httpapi.Signalling(deps), "GET", "/timers", 405}, {httpapi.Signalling(deps), "POST", "/registrations", 405},
		{httpapi.Signalling(deps), "GET", "/impu/sip:a@ims.test/bindings", 404}, {httpapi.Management(deps), "DELETE", "/registrations", 404},
		{httpapi.Management(deps), "PUT", "/impu/sip:a@ims.test", 405},
	} {
		if w := ask(t, c.h, c.method, c.target, ""); w.Code != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.target, w.Code, c.want)
		}
	}
}

func TestBindings(t *testing.T) {
	d, _, deps := fresh()
	d.record = &registrations.Record{Aor: "sip:a@ims.test", Bindings: []*registrations.Binding{{
		Id: "<urn:uuid:1>:1", Uri: "sip:a@1.2.3.4", Path: []string{"<sip:p;lr>"}, CallId: "c", Cseq: 7, ExpiresAt: 1_700_000_000_500, Params: ";reg-id=1;audio", Impi: "a@ims.test", Q: 500,
	}}}
	h := httpapi.Management(deps)
	w := ask(t, h, "GET", "/impu/"+url.PathEscape("sip:a@IMS.test")+"/bindings", "")
	var got, want any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	_ = json.Unmarshal([]byte(`{"bindings":{"<urn:uuid:1>:1":{"uri":"sip:a@1.2.3.4","cid":"c","cseq":7,"expires":1700000000,"priority":500,
		"params":{"reg-id":"1","audio":""},"path_headers":["<sip:p;lr>"],"private_id":"a@ims.test","emergency_reg":false}}}`), &want)
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if string(a) != string(b) {
		t.Errorf("got %s\nwant %s", a, b)
	}
	if w := ask(t, h, "GET", "/impu/sip:b@ims.test/bindings", ""); w.Code != 404 {
		t.Errorf("without bindings %d", w.Code)
	}
	d.err = errors.New("away")
	if w := ask(t, h, "GET", "/impu/sip:a@ims.test/bindings", ""); w.Code != 500 {
		t.Errorf("without a store %d", w.Code)
	}
}

func TestAdministrativeDeregistration(t *testing.T) {
	for name, c := range map[string]struct {
		impu   string
		spoil  func(*double, *hsstest.HSS)
		status int
		asked  string
	}{
		"done":              {"sip:a@ims.test", nil, 200, "deregister sip:a@ims.test  tell the HSS"},
		"not the default":   {"tel:+1", nil, 400, ""},
		"not served":        {"sip:b@ims.test", nil, 400, ""},
		"HSS away":          {"sip:a@ims.test", func(_ *double, h *hsstest.HSS) { h.Fail(hss.Result_RESULT_UNAVAILABLE) }, 502, ""},
		"nobody to ask":     {"sip:a@ims.test", func(_ *double, h *hsstest.HSS) { h.FailWith(context.DeadlineExceeded) }, 502, ""},
		"store away":        {"sip:a@ims.test", func(d *double, _ *hsstest.HSS) { d.err = errors.New("away") }, 500, "deregister sip:a@ims.test  tell the HSS"},
		"HSS away meantime": {"sip:a@ims.test", func(d *double, _ *hsstest.HSS) { d.err = errors.New("telling the HSS of the end") }, 502, "deregister sip:a@ims.test  tell the HSS"},
	} {
		t.Run(name, func(t *testing.T) {
			d, h, deps := fresh()
			if c.spoil != nil {
				c.spoil(d, h)
			}
			w := ask(t, httpapi.Management(deps), http.MethodDelete, "/impu/"+url.PathEscape(c.impu), "")
			if got := d.questions(); w.Code != c.status || got != c.asked {
				t.Errorf("%d %s, asked %q; want %d and %q", w.Code, w.Body, got, c.status, c.asked)
			}
		})
	}
}
