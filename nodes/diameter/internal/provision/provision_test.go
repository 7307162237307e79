package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
	"github.com/clearwater-ims/clearwater/nodes/internal/httpserver"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// store fails its reads and scans when told to.
type store struct {
	*records.Memory
	fail atomic.Pointer[error]
	scan atomic.Int32 // scans until one fails; 0 = never
}

func (s *store) Get(ctx context.Context, table string, keys ...string) ([]*records.Row, error) {
	if err := s.fail.Load(); err != nil {
		return nil, *err
	}
	return s.Memory.Get(ctx, table, keys...)
}

func (s *store) Scan(ctx context.Context, table, prefix, after string, limit int) ([]*records.Row, bool, error) {
	if n := s.scan.Load(); n > 0 && s.scan.Add(-1) == 0 {
		return nil, false, rpc.ErrUnavailable
	}
	return s.Memory.Scan(ctx, table, prefix, after, limit)
}

type server struct {
	t     *testing.T
	url   string
	store *store
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &store{Memory: records.NewMemory()}
	mux := http.NewServeMux()
	Register(mux, subscribers.New(s), func() string { return "home.example.com" })
	bounded, err := httpserver.New(httpserver.Config{Name: "test"}, httpserver.Deps{Handler: mux, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(bounded)
	t.Cleanup(h.Close)
	return &server{t, h.URL, s}
}

// do calls and returns status, body and Location. Redirections are not followed.
func (s *server) do(method, path, body string) (int, string, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(text)), resp.Header.Get("Location")
}

// want calls and checks status and body; "~x" wants a part.
func (s *server) want(method, path, body string, status int, text string) {
	s.t.Helper()
	got, answer, _ := s.do(method, path, body)
	if got != status {
		s.t.Errorf("%s %s: status %d, want %d: %s", method, path, got, status, answer)
	}
	if part, ok := strings.CutPrefix(text, "~"); (ok && !strings.Contains(answer, part)) || (!ok && answer != text) {
		s.t.Errorf("%s %s: got %q, want %q", method, path, answer, text)
	}
}

// create posts and returns the Location.
func (s *server) create(path string) string {
	s.t.Helper()
	status, body, location := s.do("POST", path, "")
	if status != 201 || body != "" || !strings.HasPrefix(location, path+"/") || !uuid.MatchString(location[len(path)+1:]) {
		s.t.Fatalf("POST %s: %d %q %q", path, status, body, location)
	}
	return location
}

const (
	alice    = "sip%3Aalice%40example.com"
	criteria = "<ServiceProfile><InitialFilterCriteria><ApplicationServer><ServerName>sip:mmtel.example.com</ServerName></ApplicationServer></InitialFilterCriteria></ServiceProfile>"
	nowhere  = "/irs/00000000-0000-4000-8000-000000000000"
)

func identity(uri string) string {
	return "<PublicIdentity><Identity>" + uri + "</Identity></PublicIdentity>"
}

func TestPrivate(t *testing.T) {
	s := newServer(t)
	const path, digest = "/private/alice%40example.com", "0123456789abcdef0123456789abcdef"
	s.want("GET", path, "", 404, "~alice@example.com")
	s.want("DELETE", path, "", 204, "")
	for name, body := range map[string]string{
		"empty": "", "no JSON": "{", "both": `{"digest_ha1":"` + digest + `","plaintext_password":"p"}`, "neither": `{"realm":"r"}`, "no digest": `{"digest_ha1":"xyz"}`, "list": "[]",
	} {
		if status, text, _ := s.do("PUT", path, body); status != 400 || text == "" {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	s.want("PUT", path, strings.Repeat("x", 2<<20), 413, "~bytes")
	s.want("PUT", path, `{"plaintext_password":"secret"}`, 200, "")
	s.want("GET", path, "", 200, `{"digest_ha1":"c27f0e0d2d2d7cac07ba759cac6e2cf2","realm":"home.example.com","plaintext_password":"secret"}`)
	s.want("PUT", path, `{"digest_ha1":"`+digest+`","realm":"other"}`, 200, "")
	s.want("GET", path, "", 200, `{"digest_ha1":"`+digest+`","realm":"other"}`)
	s.want("GET", path+"/associated_implicit_registration_sets", "", 200, `{"associated_implicit_registration_sets":[]}`)
	s.want("GET", path+"/associated_public_ids", "", 200, `{"associated_public_ids":[]}`)
	s.want("POST", path, "", 405, "~")
	s.want("DELETE", path, "", 200, "")
	s.want("GET", path, "", 404, "~")
}

func TestSubscriberLife(t *testing.T) {
	s := newServer(t)
	s.want("PUT", "/private/alice%40example.com", `{"plaintext_password":"p"}`, 200, "")
	irs := s.create("/irs")
	sp := s.create(irs + "/service_profiles")
	s.want("PUT", irs+"/private_ids/alice%40example.com", "", 200, "")
	s.want("PUT", irs+"/private_ids/alice%40example.com", "", 200, "")
	s.want("PUT", sp+"/public_ids/"+alice, identity("sip:alice@example.com"), 200, "")
	s.want("PUT", sp+"/public_ids/tel:+1555", "<PublicIdentity><BarringIndication>1</BarringIndication><Identity>tel:+1555</Identity></PublicIdentity>", 200, "")
	s.want("GET", sp+"/filter_criteria", "", 404, "~")
	s.want("PUT", sp+"/filter_criteria", criteria, 200, "")
	s.want("GET", sp+"/filter_criteria", "", 200, criteria)

	s.want("GET", irs+"/public_ids", "", 200, `{"public_ids":["sip:alice@example.com","tel:+1555"]}`)
	s.want("GET", sp+"/public_ids", "", 200, `{"public_ids":["sip:alice@example.com","tel:+1555"]}`)
	s.want("GET", irs+"/private_ids", "", 200, `{"private_ids":["alice@example.com"]}`)
	s.want("GET", "/private/alice@example.com/associated_public_ids", "", 200, `{"associated_public_ids":["sip:alice@example.com","tel:+1555"]}`)
	s.want("GET", "/private/alice@example.com/associated_implicit_registration_sets", "", 200, `{"associated_implicit_registration_sets":["`+irs[len("/irs/"):]+`"]}`)
	s.want("GET", "/public/"+alice+"/associated_private_ids", "", 200, `{"private_ids":["alice@example.com"]}`)
	if status, _, location := s.do("GET", "/public/"+alice+"/service_profile", ""); status != 303 || location != sp {
		t.Errorf("service profile: %d %s", status, location)
	}
	if status, _, location := s.do("GET", "/public/sip:alice@example.com/irs", ""); status != 303 || location != irs {
		t.Errorf("irs: %d %s", status, location)
	}
	// A second device, linked from the other side, and unlinked again.
	s.want("PUT", "/private/tablet", `{"plaintext_password":"p"}`, 200, "")
	s.want("PUT", "/private/tablet/associated_implicit_registration_sets/"+irs[len("/irs/"):], "", 200, "")
	s.want("GET", irs+"/private_ids", "", 200, `{"private_ids":["alice@example.com","tablet"]}`)
	s.want("DELETE", irs+"/private_ids/tablet", "", 200, "")
	s.want("DELETE", irs+"/private_ids/tablet", "", 204, "")
	s.want("GET", "/private/tablet/associated_public_ids", "", 200, `{"associated_public_ids":[]}`)

	s.want("DELETE", sp+"/public_ids/tel:+1555", "", 200, "")
	s.want("DELETE", sp+"/public_ids/tel:+1555", "", 204, "")
	s.want("DELETE", irs, "", 200, "")
	s.want("DELETE", irs, "", 204, "")
	s.want("GET", "/public/"+alice+"/irs", "", 404, "~")
	s.want("GET", sp+"/public_ids", "", 404, "~")
	s.want("GET", "/private/alice@example.com/associated_implicit_registration_sets", "", 200, `{"associated_implicit_registration_sets":[]}`)
}

func TestRefusals(t *testing.T) {
	s := newServer(t)
	irs, irs2 := s.create("/irs"), s.create("/irs")
	sp, sp2 := s.create(irs+"/service_profiles"), s.create(irs2+"/service_profiles")
	s.want("PUT", sp+"/public_ids/"+alice, identity("sip:alice@example.com"), 200, "")
	crossed := irs + "/service_profiles/" + sp2[strings.LastIndex(sp2, "/")+1:]
	for _, tc := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"PUT", sp2 + "/public_ids/" + alice, identity("sip:alice@example.com"), 403, "~another profile"},
		{"DELETE", sp2 + "/public_ids/" + alice, "", 403, "~"},
		{"PUT", sp + "/public_ids/" + alice, identity("sip:bob@example.com"), 403, "~sip:bob@example.com"},
		{"PUT", sp + "/public_ids/" + alice, "", 400, "~empty"},
		{"PUT", sp + "/public_ids/" + alice, "alice", 400, "~XML"},
		{"PUT", sp + "/public_ids/" + alice, "<PublicIdentity/>", 400, "~needs <Identity>"},
		{"PUT", sp + "/public_ids/" + alice, strings.Repeat("x", 2<<20), 413, "~bytes"},
		{"PUT", sp + "/public_ids/mailto:a@b", identity("mailto:a@b"), 400, "~tel: URI"},
		{"GET", crossed + "/public_ids", "", 403, "~"},
		{"PUT", crossed + "/filter_criteria", criteria, 403, "~"},
		{"DELETE", crossed, "", 403, "~"},
		{"PUT", sp + "/filter_criteria", "", 400, "~empty"},
		{"PUT", sp + "/filter_criteria", "<ServiceProfile><Nonsense/></ServiceProfile>", 400, "~Nonsense"},
		{"PUT", sp + "/filter_criteria", "{}", 400, "~XML"},
		{"PUT", irs + "/private_ids/nobody", "", 404, "~nobody"},
		{"POST", nowhere + "/service_profiles", "", 404, "~"},
		{"GET", nowhere + "/public_ids", "", 404, "~"},
		{"GET", nowhere + "/private_ids", "", 404, "~"},
		{"DELETE", nowhere, "", 204, ""},
		{"DELETE", irs + "/service_profiles/00000000-0000-4000-8000-000000000000", "", 204, ""},
		{"DELETE", "/private/nobody/associated_implicit_registration_sets" + nowhere[len("/irs"):], "", 204, ""},
		{"GET", "/irs/not-a-uuid/public_ids", "", 404, "~UUID"},
		{"GET", strings.ToUpper(irs[len("/irs"):]), "", 404, "~"},
		{"GET", "/public/sip:nobody@example.com/service_profile", "", 404, "~"},
		{"GET", "/public/nonsense/irs", "", 404, "~"},
		{"GET", "/public/sip:nobody@example.com/associated_private_ids", "", 404, "~"},
		{"PATCH", irs, "", 405, "~"},
		{"GET", "/ping", "", 200, "OK"},
	} {
		s.want(tc.method, tc.path, tc.body, tc.status, tc.want)
	}
	s.want("GET", sp+"/public_ids", "", 200, `{"public_ids":["sip:alice@example.com"]}`)
}

func TestStoreTrouble(t *testing.T) {
	s := newServer(t)
	for err, status := range map[error]int{rpc.ErrUnavailable: 503, rpc.ErrTimeout: 504, errors.New("bug"): 500} {
		s.store.fail.Store(&err)
		s.want("GET", "/private/a", "", status, "~")
		s.want("POST", "/irs", "", status, "~")
	}
}

type listed struct {
	IDs []struct {
		ID string `json:"public_id"`
		SP string `json:"sp"`
		RS string `json:"irs"`
	} `json:"public_ids"`
}

func (s *server) list(query string) listed {
	s.t.Helper()
	status, text, _ := s.do("GET", "/public/"+query, "")
	var l listed
	if err := json.Unmarshal([]byte(text), &l); status != 200 || err != nil || l.IDs == nil {
		s.t.Fatalf("list%s: %d %v %.200s", query, status, err, text)
	}
	return l
}

func TestList(t *testing.T) {
	s := newServer(t)
	if got := s.list(""); len(got.IDs) != 0 {
		t.Errorf("an empty list holds %v", got)
	}
	irs := s.create("/irs")
	sp := s.create(irs + "/service_profiles")
	db := subscribers.New(s.store)
	for i := range 2*pageSize + 10 { // three pages
		uri := fmt.Sprintf("sip:u%04d@example.com", i)
		if err := db.PutPublic(t.Context(), irs[len("/irs/"):], sp[strings.LastIndex(sp, "/")+1:], &subscribers.Public{Key: uri, Uri: uri}); err != nil {
			t.Fatal(err)
		}
	}
	all := s.list("")
	if len(all.IDs) != 2*pageSize+10 || all.IDs[0].SP == "" || all.IDs[0].RS != irs[len("/irs/"):] {
		t.Errorf("%d identities, first %+v", len(all.IDs), all.IDs[0])
	}
	if got := s.list("?excludeuuids=true"); len(got.IDs) != len(all.IDs) || got.IDs[0].SP != "" || got.IDs[0].RS != "" {
		t.Errorf("without ids: %d, first %+v", len(got.IDs), got.IDs[0])
	}
	seen := map[string]bool{}
	for chunk := range 4 {
		for _, id := range s.list(fmt.Sprintf("?chunk-proportion=4&chunk=%d", chunk)).IDs {
			if seen[id.ID] {
				t.Errorf("%s is in two chunks", id.ID)
			}
			seen[id.ID] = true
		}
	}
	if len(seen) != len(all.IDs) {
		t.Errorf("the chunks hold %d identities", len(seen))
	}
	for _, query := range []string{"?chunk=4&chunk-proportion=4", "?chunk=-1", "?chunk-proportion=0", "?excludeuuids=maybe", "?chunk=x"} {
		s.want("GET", "/public/"+query, "", 400, "~allowed")
	}
	// When the store goes away in the middle, what came so far must not look like the whole list.
	s.store.scan.Store(2)
	resp, err := http.Get(s.url + "/public/") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("a list that was cut short ended properly")
	}
}

// The client that the portal, cw and the provider use gets along with this server.
func TestWithTheClient(t *testing.T) {
	s := newServer(t)
	c := provisioning.New(s.url, http.DefaultClient)
	ctx := t.Context()
	sub := provisioning.Subscriber{PublicIDs: []string{"sip:6505550001@example.com", "tel:+16505550001"}, PrivateID: "6505550001@example.com", Password: "p"}
	if err := c.CreateSubscriber(ctx, sub); err != nil {
		t.Fatal(err)
	}
	got, err := c.GetSubscriber(ctx, sub.PublicIDs[0])
	if err != nil || !slices.Equal(got.PublicIDs, sub.PublicIDs) || !slices.Equal(got.PrivateIDs, []string{sub.PrivateID}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if !strings.Contains(got.FilterCriteria, "mmtel.example.com") {
		t.Errorf("default criteria: %s", got.FilterCriteria)
	}
	sub.Password, sub.FilterCriteria = "q", criteria
	if err := c.UpdateSubscriber(ctx, sub); err != nil {
		t.Error(err)
	}
	if p, err := c.Private(ctx, sub.PrivateID); err != nil || p.DigestHA1 != provisioning.HA1(sub.PrivateID, "example.com", "q") {
		t.Errorf("after the update: %+v, %v", p, err)
	}
	if list, err := c.PublicIDs(ctx, provisioning.ListOptions{}); err != nil || len(list) != 2 {
		t.Errorf("list: %v, %v", list, err)
	}
	if err := c.DeleteSubscriber(ctx, sub.PublicIDs[0], ""); err != nil {
		t.Error(err)
	}
	s.want("GET", "/private/"+sub.PrivateID, "", 404, "~")
	s.want("GET", "/public/", "", 200, `{"public_ids":[]}`)
}

// A card's credentials go in and are never shown; what is of another kind stays.
func TestCards(t *testing.T) {
	s := newServer(t)
	const path = "/private/card@example.com"
	const k, op, opc = "465b5ce8b199b49faa5f0a2ee238a6bc", "cdc202d5123e20f62b6d676ac72cb318", "cd63cb71954a9f4e48a5994e37a02baf" // TS 35.208 test set 1
	for _, bad := range []string{
		`{"aka_k":"` + k + `"}`, `{"aka_opc":"` + opc + `"}`, `{"aka_k":"` + k + `","aka_op":"` + op + `","aka_opc":"` + opc + `"}`, `{"aka_amf":"8000"}`,
		`{"aka_k":"12","aka_opc":"` + opc + `"}`, `{"aka_k":"` + k + `","aka_opc":"` + opc[1:] + `"}`, `{"aka_k":"` + k + `","aka_opc":"` + opc + `","aka_amf":"b9b9b9"}`,
		`{"aka_k":"` + k[1:] + `x","aka_opc":"` + opc + `"}`, `{"aka_k":5,"aka_opc":"` + opc + `"}`, `{"digest_ha1":"0123456789abcdef0123456789abcdef","aka_op":"` + op + `"}`,
	} {
		if status, text, _ := s.do("PUT", path, bad); status != 400 || strings.Contains(text, k[:31]) || strings.Contains(text, opc[1:]) {
			t.Errorf("%s: %d %s", bad, status, text)
		}
	}
	s.want("GET", path, "", 404, "~")
	s.want("PUT", path, `{"aka_k":"`+strings.ToUpper(k)+`","aka_op":"`+op+`","aka_amf":"b9b9"}`, 200, "")
	s.want("GET", path, "", 200, `{"realm":"home.example.com","aka":true}`)
	db := subscribers.New(s.store)
	p, err := db.Private(t.Context(), "card@example.com")
	if a := p.GetAka(); err != nil || fmt.Sprintf("%x %x %x", a.GetK(), a.GetOpc(), a.GetAmf()) != k+" "+opc+" b9b9" {
		t.Errorf("stored %v, %v", p, err)
	}
	s.want("PUT", path, `{"digest_ha1":"0123456789abcdef0123456789abcdef"}`, 200, "")
	s.want("GET", path, "", 200, `{"digest_ha1":"0123456789abcdef0123456789abcdef","realm":"home.example.com","aka":true}`)
	s.want("PUT", path, `{"aka_k":"`+k+`","aka_opc":"`+opc+`"}`, 200, "")
	if p, err = db.Private(t.Context(), "card@example.com"); err != nil || fmt.Sprintf("%x", p.GetAka().GetAmf()) != "8000" || p.GetDigestHa1() == "" {
		t.Errorf("stored %v, %v", p, err)
	}
}
