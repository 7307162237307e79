package signalling

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss/hsstest"
	"github.com/clearwater-ims/clearwater/nodes/internal/httpserver"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// states answers the read-only question from what the double's Assign says of a call.
type states struct{ double *hsstest.HSS }

func (s states) State(ctx context.Context, impu string) (*hss.RegData, hss.Result, string) {
	resp, _ := s.double.Assign(ctx, &hss.AssignRequest{Impu: impu, Reqtype: hss.DeregAuthTimeout})
	return resp.GetRegData(), resp.GetResult(), resp.GetDetail()
}

func serve(t *testing.T) (*hsstest.HSS, *httptest.Server) {
	t.Helper()
	double := hsstest.NewFixture().Load()
	mux := http.NewServeMux()
	Register(mux, double, states{double})
	bounded, err := httpserver.New(httpserver.Config{Name: "test"}, httpserver.Deps{Handler: mux, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(bounded)
	t.Cleanup(server.Close)
	return double, server
}

func call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(text))
}

func TestCardVectors(t *testing.T) {
	double, server := serve(t)
	double.AddCard("card@example.com", "sip:card@example.com")
	path := server.URL + "/impi/card@example.com/av"
	for i, scheme := range []string{"", "/aka", "/aka2"} {
		status, text := call(t, "GET", path+scheme+"?impu=sip:card@example.com", "")
		v := double.Vectors()[i]
		want := fmt.Sprintf(`{"aka":{"challenge":%q,"cryptkey":%q,"integritykey":%q,"response":%q,"version":%d}}`, v.GetChallenge(), v.GetCryptKey(), v.GetIntegrityKey(), v.GetResponse(), max(1, i))
		if status != 200 || text != want {
			t.Errorf("%s: %d %s, want %s", scheme, status, text, want)
		}
	}
	for resync, want := range map[string]int{"%2B%2B%2B%2B": 200, "++++": 200, "AAAA": 403, "!": 400} {
		if status, text := call(t, "GET", path+"/aka?impu=sip:card@example.com&resync-auth="+resync, ""); status != want {
			t.Errorf("resync-auth=%s: %d %s", resync, status, text)
		}
	}
	if got := double.Resyncs(); len(got) != 3 {
		t.Errorf("asked to resynchronise %x", got)
	}
	if status, _ := call(t, "GET", path+"/digest?impu=sip:card@example.com", ""); status != 404 {
		t.Errorf("digest of a card: %d", status)
	}
}

func TestCalls(t *testing.T) {
	_, server := serve(t)
	const (
		ha1      = "00fe3f14d285b7cf7a46d757be640ac7" // MD5 of bob@example.com:example.com:three
		scscf    = `"scscf":"sip:scscf.router.example.com:5054;transport=TCP"`
		bob      = "/impi/bob%40example.com"
		bobsID   = "sip%3Abob%40example.com"
		profile  = "<IMSSubscription><PrivateID>Unspecified</PrivateID><ServiceProfile><PublicIdentity><Identity>sip:bob@example.com</Identity></PublicIdentity></ServiceProfile></IMSSubscription>"
		regBegin = "<ClearwaterRegData><RegistrationState>"
	)
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		want                     string // all of it, or a part if it begins with ~
	}{
		{"vector", "GET", bob + "/av?impu=" + bobsID, "", 200, "~" + ha1},
		{"digest vector", "GET", bob + "/av/digest?impu=sip:bob@example.com&server-name=sip:x", "", 200, `{"digest":{"ha1":"` + ha1 + `","qop":"auth","realm":"example.com"}}`},
		{"raw identities", "GET", "/impi/bob@example.com/av/digest?impu=sip:bob@example.com", "", 200, "~" + ha1},
		{"AKA", "GET", bob + "/av/aka?impu=" + bobsID, "", 404, "~AKA"},
		{"AKAv2", "GET", bob + "/av/aka2?impu=" + bobsID, "", 404, "~AKA"},
		{"other scheme", "GET", bob + "/av/basic?impu=" + bobsID, "", 404, "~"},
		{"no identity", "GET", bob + "/av", "", 404, "~"},
		{"unknown private", "GET", "/impi/x@example.com/av?impu=" + bobsID, "", 404, "~x@example.com"},
		{"wrong pair", "GET", bob + "/av?impu=sip:alice@example.com", "", 404, "~belong together"},
		{"old digest", "GET", bob + "/digest?public_id=" + bobsID, "", 200, `{"digest_ha1":"` + ha1 + `"}`},
		{"registration status", "GET", bob + "/registration-status?impu=" + bobsID + "&visited-network=example.com&auth-type=REG", "", 200, `{"result-code":2001,` + scscf + `}`},
		{"status of an unknown", "GET", "/impi/x/registration-status?impu=" + bobsID, "", 404, "~"},
		{"status of a barred", "GET", "/impi/carol@example.com/registration-status?impu=sip:carol@example.com", "", 403, "~barred"},
		{"location", "GET", "/impu/" + bobsID + "/location?originating=true", "", 200, `{"result-code":2001,` + scscf + `}`},
		{"location of an unknown", "GET", "/impu/sip:x@example.com/location", "", 404, "~"},
		{"data", "GET", "/impu/" + bobsID + "/reg-data", "", 200, regBegin + "NOT_REGISTERED</RegistrationState>" + profile + "</ClearwaterRegData>"},
		{"data of an unknown", "GET", "/impu/sip:x@y/reg-data", "", 404, "~"},
		{"reg", "PUT", "/impu/" + bobsID + "/reg-data?private_id=bob@example.com", `{"reqtype":"reg","server_name":"sip:s"}`, 200,
			regBegin + "REGISTERED</RegistrationState><PreviousRegistrationState>NOT_REGISTERED</PreviousRegistrationState>" + profile + "</ClearwaterRegData>"},
		{"call", "PUT", "/impu/" + bobsID + "/reg-data", `{"reqtype":"call"}`, 200, "~<PreviousRegistrationState>REGISTERED<"},
		{"auth failed", "PUT", "/impu/" + bobsID + "/reg-data", `{"reqtype":"dereg-auth-failure"}`, 200, "~>REGISTERED<"},
		{"deregistration", "PUT", "/impu/" + bobsID + "/reg-data", `{"reqtype":"dereg-timeout"}`, 200, regBegin + "NOT_REGISTERED</RegistrationState>" + profile + "</ClearwaterRegData>"},
		{"reg with a stranger", "PUT", "/impu/" + bobsID + "/reg-data?private_id=alice@example.com", `{"reqtype":"reg"}`, 404, "~"},
		{"unknown reqtype", "PUT", "/impu/" + bobsID + "/reg-data", `{"reqtype":"dance"}`, 400, "~dance"},
		{"no reqtype", "PUT", "/impu/" + bobsID + "/reg-data", `{}`, 400, "~"},
		{"no JSON", "PUT", "/impu/" + bobsID + "/reg-data", `reg`, 400, "~JSON"},
		{"JSON of another shape", "PUT", "/impu/" + bobsID + "/reg-data", `[1]`, 400, "~JSON"},
		{"no body", "PUT", "/impu/" + bobsID + "/reg-data", ``, 400, "~JSON"},
		{"huge body", "PUT", "/impu/" + bobsID + "/reg-data", `{"reqtype":"` + strings.Repeat("x", 2<<20) + `"}`, 413, "~bytes"},
		{"wrong method", "POST", "/impu/" + bobsID + "/reg-data", `{}`, 405, "~"},
		{"wrong method on av", "DELETE", bob + "/av", ``, 405, "~"},
		{"nothing there", "GET", "/nothing", ``, 404, "~"},
		{"ping", "GET", "/ping", ``, 200, "OK"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, text := call(t, tc.method, server.URL+tc.path, tc.body)
			if status != tc.status {
				t.Errorf("status %d, want %d: %s", status, tc.status, text)
			}
			if part, ok := strings.CutPrefix(tc.want, "~"); (ok && !strings.Contains(text, part)) || (!ok && text != tc.want) {
				t.Errorf("got  %s\nwant %s", text, tc.want)
			}
		})
	}
}

func TestResultsAreStatuses(t *testing.T) {
	double, server := serve(t)
	paths := []string{"/impi/bob@example.com/av?impu=sip:bob@example.com", "/impi/bob@example.com/registration-status?impu=sip:bob@example.com", "/impu/sip:bob@example.com/location"}
	for result, want := range map[hss.Result]int{
		hss.Result_RESULT_UNKNOWN: 404, hss.Result_RESULT_ROAMING_REFUSED: 403, hss.Result_RESULT_BARRED: 403,
		hss.Result_RESULT_UNAVAILABLE: 503, hss.Result_RESULT_TIMEOUT: 504, hss.Result_RESULT_UNSUPPORTED_SCHEME: 404,
	} {
		double.Fail(result)
		for _, path := range paths {
			if status, _ := call(t, "GET", server.URL+path, ""); status != want {
				t.Errorf("%v at %s: %d, want %d", result, path, status, want)
			}
		}
		if status, _ := call(t, "PUT", server.URL+"/impu/sip:bob@example.com/reg-data", `{"reqtype":"reg"}`); status != want {
			t.Errorf("%v at reg-data: %d, want %d", result, status, want)
		}
	}
	double.Fail(hss.Result_RESULT_OK)
	for err, want := range map[error]int{rpc.ErrUnavailable: 503, rpc.ErrTimeout: 504, errors.New("x"): 503} {
		double.FailWith(err)
		for _, path := range paths {
			if status, _ := call(t, "GET", server.URL+path, ""); status != want {
				t.Errorf("%v at %s: %d, want %d", err, path, status, want)
			}
		}
	}
}

func TestReadOnlyPartChangesNothing(t *testing.T) {
	double := hsstest.NewFixture().Load()
	mux := http.NewServeMux()
	RegisterReadOnly(mux, states{double})
	server := httptest.NewServer(mux)
	defer server.Close()
	if status, _ := call(t, "GET", server.URL+"/impu/sip:bob@example.com/reg-data", ""); status != 200 {
		t.Errorf("reading: %d", status)
	}
	if status, _ := call(t, "PUT", server.URL+"/impu/sip:bob@example.com/reg-data", `{"reqtype":"reg"}`); status != 405 {
		t.Errorf("writing: %d", status)
	}
	if status, _ := call(t, "GET", server.URL+"/impi/bob@example.com/av?impu=sip:bob@example.com", ""); status != 404 {
		t.Errorf("credentials on the management port: %d", status)
	}
}

func TestChargingAddresses(t *testing.T) {
	w := httptest.NewRecorder()
	writeRegData(w, &hss.RegData{State: "REGISTERED", ImsSubscription: "<IMSSubscription/>", Ccfs: []string{"a&b", "c"}, Ecfs: []string{"d"}})
	want := `<ClearwaterRegData><RegistrationState>REGISTERED</RegistrationState><IMSSubscription/><ChargingAddresses><CCF priority="1">a&amp;b</CCF><CCF priority="2">c</CCF><ECF priority="1">d</ECF></ChargingAddresses></ClearwaterRegData>`
	if got := w.Body.Bytes(); !bytes.Equal(got, []byte(want)) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
