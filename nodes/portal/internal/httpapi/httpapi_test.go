package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/clearwater-ims/clearwater/nodes/api/portal"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning/provisioningtest"
	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/nodes/api/xdms"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/accounts"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/httpapi"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/numbers"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/rows"
)

const key = "api-key"

// documents is a document server of one map.
type documents struct {
	mu   sync.Mutex
	docs map[string]string
	fail bool
}

func (d *documents) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail {
		http.Error(w, "failed on purpose", http.StatusInternalServerError)
		return
	}
	body, _ := io.ReadAll(r.Body)
	switch r.Method {
	case http.MethodPut:
		if !strings.Contains(string(body), "<simservs") {
			http.Error(w, "not simservs", http.StatusBadRequest)
			return
		}
		d.docs[r.URL.Path] = string(body)
	case http.MethodDelete:
		delete(d.docs, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	default:
		if text, ok := d.docs[r.URL.Path]; ok {
			_, _ = io.WriteString(w, text)
		} else {
			http.NotFound(w, r)
		}
	}
}

func (d *documents) set(fail bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = fail
}

func (d *documents) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.docs)
}

// world is a portal of two nodes with its neighbours.
type world struct {
	hs    *provisioningtest.Server
	docs  *documents
	store rows.Store
	urls  []string
	clock *clock
	apis  []*httpapi.Handler
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		hs: provisioningtest.New(), docs: &documents{docs: map[string]string{}}, store: records.NewMemory(),
		clock: &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)},
	}
	hs, docs := httptest.NewServer(w.hs), httptest.NewServer(w.docs)
	t.Cleanup(hs.Close)
	t.Cleanup(docs.Close)
	for range 2 {
		w.node(t, hs.URL, docs.URL)
	}
	return w
}

func (w *world) node(t *testing.T, hsURL, docsURL string) {
	t.Helper()
	prov, docs := provisioning.New(hsURL, nil), xdms.New(docsURL, nil)
	users, err := accounts.New(w.store, w.clock.Now, bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	api := httpapi.New(httpapi.Deps{
		Settings: func() httpapi.Settings {
			return httpapi.Settings{SignupKey: "secret", APIKey: key, CookieKey: "cookie-key", HomeDomain: "example.com"}
		},
		Accounts: users,
		Numbers: numbers.New(numbers.Deps{Store: w.store, Subscribers: prov, Documents: docs, Now: w.clock.Now,
			Usable: func(ctx context.Context, email string) error { _, err := users.Get(ctx, email); return err }}),
		Provisioning: prov, Documents: docs, Log: slog.New(slog.DiscardHandler), Now: w.clock.Now,
	})
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(rw, r.Body, 1<<20)
		api.ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	w.urls, w.apis = append(w.urls, server.URL), append(w.apis, api)
}

func (w *world) operator(node int) *portal.Client { return portal.New(w.urls[node], nil, key) }

// account signs alice up and returns a client with her session.
func (w *world) account(t *testing.T, email string) *portal.Client {
	t.Helper()
	anybody := portal.New(w.urls[0], nil, "")
	_, err := anybody.CreateAccount(t.Context(), portal.NewAccount{Email: email, Password: "password", FullName: "Some Body", SignupCode: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	session, err := portal.New(w.urls[1], nil, "").Login(t.Context(), email, "password")
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func (w *world) block(t *testing.T, b portal.NumberBlock) *portal.NumberBlock {
	t.Helper()
	got, err := w.operator(0).PutNumberBlock(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

const alice = "alice_1@example.com"

func TestLineFromSignupToDeletion(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.block(t, portal.NumberBlock{Start: "6505550000", Count: 3})
	user := w.account(t, alice)
	line, err := user.AllocateNumber(ctx, alice, portal.NumberOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(line.SIPURI, "sip:650555000") || line.PrivateID != line.SIPURI[4:] || len(line.Password) < 8 ||
		!strings.HasPrefix(line.Formatted, "(650) 555-000") || line.PSTN || line.SIPUsername != line.Number || len(line.ID) != 32 {
		t.Errorf("got %+v", line)
	}
	list, err := user.Numbers(ctx, alice)
	if err != nil || len(list) != 1 || list[0].SIPURI != line.SIPURI || list[0].Password != "" || !list[0].Listed || list[0].Domain != "example.com" {
		t.Fatalf("list %+v, %v", list, err)
	}
	if text, err := user.Simservs(ctx, alice, line.SIPURI); err != nil || text != xdms.DefaultSimservs {
		t.Errorf("simservs %q, %v", text, err)
	}
	if err := user.PutSimservs(ctx, alice, line.SIPURI, "<simservs/>"); err != nil {
		t.Error(err)
	}
	if err := user.PutSimservs(ctx, alice, line.SIPURI, "<other/>"); rest.Status(err) != 502 {
		t.Errorf("bad simservs: %v", err)
	}
	if text, err := user.FilterCriteria(ctx, alice, line.SIPURI); err != nil || !strings.Contains(text, "mmtel.example.com") {
		t.Errorf("ifcs %q, %v", text, err)
	}
	if err := user.PutFilterCriteria(ctx, alice, line.SIPURI, "<ServiceProfile></ServiceProfile>"); err != nil {
		t.Error(err)
	}
	fresh, err := user.ResetPassword(ctx, alice, line.SIPURI)
	if err != nil || fresh == line.Password || fresh == "" {
		t.Errorf("new password %q, %v", fresh, err)
	}
	if err := w.operator(1).DeleteAccount(ctx, alice); err != nil {
		t.Fatal(err)
	}
	if privates, sets := w.hs.Counts(); privates+sets+w.docs.count() != 0 {
		t.Errorf("left behind: %d privates, %d sets, %d documents", privates, sets, w.docs.count())
	}
	b, err := w.operator(0).NumberBlock(ctx, "6505550000")
	if err != nil || b.Free != 3 || b.InUse != 0 {
		t.Errorf("pool %+v, %v", b, err)
	}
	if _, err := user.Numbers(ctx, alice); rest.Status(err) != 403 {
		t.Errorf("session of a deleted account: %v", err)
	}
}

func TestNumberBlocks(t *testing.T) {
	w := newWorld(t)
	ctx, c := t.Context(), w.operator(0)
	b := portal.NumberBlock{Start: "6505550000", Count: 1000}
	if got := w.block(t, b); got.Message != "Created 1000 numbers, 0 already present" || got.Free != 1000 || got.Realm != "example.com" {
		t.Errorf("first: %+v", got)
	}
	if got := w.block(t, b); got.Message != "Created 0 numbers, 1000 already present" {
		t.Errorf("again: %+v", got)
	}
	b.Count = 1200
	if got := w.block(t, b); got.Created != 200 || got.Present != 1000 {
		t.Errorf("longer: %+v", got)
	}
	b.Count = 10
	if got := w.block(t, b); got.Free != 10 {
		t.Errorf("shorter: %+v", got)
	}
	b.PSTN = true
	if _, err := c.PutNumberBlock(ctx, b); rest.Status(err) != 409 {
		t.Errorf("other kind: %v", err)
	}
	for name, bad := range map[string]portal.NumberBlock{
		"no count": {Start: "1000"}, "huge": {Start: "1000000", Count: 1_000_001}, "letters": {Start: "abc", Count: 1},
		"overflow": {Start: "99", Count: 2}, "realm": {Start: "1", Count: 1, Realm: "a b"}, "long": {Start: "1234567890123456", Count: 1},
	} {
		if _, err := c.PutNumberBlock(ctx, bad); rest.Status(err) != 400 {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.account(t, alice)
	w.block(t, portal.NumberBlock{Start: "0007", Count: 2, PSTN: true})
	line, err := c.AllocateNumber(ctx, alice, portal.NumberOptions{PSTN: true})
	if err != nil || !strings.HasPrefix(line.SIPURI, "sip:+1000") || !line.PSTN {
		t.Fatalf("%+v, %v", line, err)
	}
	for range 2 {
		if err := c.DeleteNumberBlock(ctx, "0007"); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := c.Numbers(ctx, alice); err != nil || len(list) != 1 {
		t.Errorf("a line must survive its block: %v, %v", list, err)
	}
	if err := c.ReleaseNumber(ctx, alice, line.SIPURI); err != nil {
		t.Error(err)
	}
	if _, err := c.AllocateNumber(ctx, alice, portal.NumberOptions{PSTN: true}); rest.Status(err) != 503 {
		t.Errorf("empty pool: %v", err)
	}
	if all, err := c.NumberBlocks(ctx); err != nil || len(all) != 1 || all[0].Start != "6505550000" {
		t.Errorf("blocks %+v, %v", all, err)
	}
	if _, err := portal.New(w.urls[0], nil, "wrong").NumberBlock(ctx, "6505550000"); rest.Status(err) != 403 {
		t.Errorf("wrong key: %v", err)
	}
}

// Two nodes give out a whole pool at the same time: every number once, then 503.
func TestConcurrentAllocation(t *testing.T) {
	w := newWorld(t)
	w.block(t, portal.NumberBlock{Start: "100", Count: 40})
	w.account(t, alice)
	var mu sync.Mutex
	given, empty := map[string]bool{}, 0
	var group sync.WaitGroup
	for n := range 50 {
		group.Go(func() {
			line, err := w.operator(n%2).AllocateNumber(t.Context(), alice, portal.NumberOptions{})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case rest.Status(err) == 503:
				empty++
			case err != nil:
				t.Error(err)
			case given[line.SIPURI]:
				t.Errorf("%s was given twice", line.SIPURI)
			default:
				given[line.SIPURI] = true
			}
		})
	}
	group.Wait()
	if len(given) != 40 || empty != 10 {
		t.Errorf("%d given and %d refused, want 40 and 10", len(given), empty)
	}
	list, err := w.operator(0).Numbers(t.Context(), alice)
	if err != nil || len(list) != 40 || !slices.IsSortedFunc(list, func(a, b portal.Number) int { return strings.Compare(a.SIPURI, b.SIPURI) }) {
		t.Errorf("%d lines, %v", len(list), err)
	}
}

func TestBackendFailureRollsBack(t *testing.T) {
	w := newWorld(t)
	ctx, c := t.Context(), w.operator(0)
	w.block(t, portal.NumberBlock{Start: "100", Count: 1})
	w.account(t, alice)
	w.hs.Fail(func(method, path string) int {
		if method == http.MethodPut && strings.HasSuffix(path, "filter_criteria") {
			return 500
		}
		return 0
	})
	_, err := c.AllocateNumber(ctx, alice, portal.NumberOptions{})
	if rest.Status(err) != 502 || !strings.Contains(err.Error(), "Upstream request failed") {
		t.Fatalf("provisioning fails: %v", err)
	}
	w.hs.Fail(nil)
	w.docs.set(true)
	if _, err = c.AllocateNumber(ctx, alice, portal.NumberOptions{}); rest.Status(err) != 502 {
		t.Fatalf("documents fail: %v", err)
	}
	// Its clean-up failed as well: the number waits until it is stale, then the next look frees it.
	w.docs.set(false)
	if _, err = c.AllocateNumber(ctx, alice, portal.NumberOptions{}); rest.Status(err) != 503 {
		t.Fatalf("number under repair: %v", err)
	}
	w.clock.advance(2 * time.Minute)
	if list, err := c.Numbers(ctx, alice); err != nil || len(list) != 0 {
		t.Fatalf("%v, %v", list, err)
	}
	if privates, sets := w.hs.Counts(); privates+sets != 0 {
		t.Errorf("left behind: %d privates, %d sets", privates, sets)
	}
	if _, err = c.AllocateNumber(ctx, alice, portal.NumberOptions{}); err != nil {
		t.Errorf("after repair: %v", err)
	}
	w.hs.Fail(func(string, string) int { return 503 })
	if _, err := c.Numbers(ctx, alice); rest.Status(err) != 502 {
		t.Errorf("list without backend: %v", err)
	}
}

func TestLineGoneAtBackendIsReleased(t *testing.T) {
	w := newWorld(t)
	ctx, c := t.Context(), w.operator(0)
	w.block(t, portal.NumberBlock{Start: "100", Count: 1})
	w.account(t, alice)
	line, err := c.AllocateNumber(ctx, alice, portal.NumberOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.hs.Fail(func(_, path string) int {
		if strings.HasSuffix(path, "associated_private_ids") {
			return 404
		}
		return 0
	})
	if _, err := c.Numbers(ctx, alice); rest.Status(err) != 502 {
		t.Errorf("first list: %v", err)
	}
	w.hs.Fail(nil)
	if list, err := c.Numbers(ctx, alice); err != nil || len(list) != 0 {
		t.Errorf("second list: %v, %v", list, err)
	}
	if err := c.ReleaseNumber(ctx, alice, line.SIPURI); err != nil { // the client takes 404 for released
		t.Error(err)
	}
}

func TestSpecificAndSharedIdentities(t *testing.T) {
	w := newWorld(t)
	ctx, c := t.Context(), w.operator(0)
	user := w.account(t, alice)
	bob := "bob@example.com"
	w.account(t, bob)
	uri := "sip:front-desk@example.com"
	if _, err := user.AssignNumber(ctx, alice, uri, portal.NumberOptions{}); rest.Status(err) != 403 {
		t.Errorf("without the API key: %v", err)
	}
	line, err := c.AssignNumber(ctx, alice, uri, portal.NumberOptions{PrivateID: "desk@example.com", NewPrivateID: true})
	if err != nil || line.SIPUsername != "desk@example.com" || line.Password == "" {
		t.Fatalf("%+v, %v", line, err)
	}
	second, err := c.AssignNumber(ctx, alice, "sip:desk2@example.com", portal.NumberOptions{PrivateID: "desk@example.com"})
	if err != nil || second.Password != "" || second.PrivateID != "desk@example.com" {
		t.Fatalf("shared: %+v, %v", second, err)
	}
	moved, err := c.AssignNumber(ctx, bob, uri, portal.NumberOptions{})
	if err != nil || moved.PrivateID != "desk@example.com" || moved.Password != "" {
		t.Fatalf("moved: %+v, %v", moved, err)
	}
	if list, err := user.Numbers(ctx, alice); err != nil || len(list) != 1 || list[0].SIPURI != second.SIPURI {
		t.Errorf("alice has %+v, %v", list, err)
	}
	for _, bad := range []string{"alice", "tel:+1", "sip:a", "sip:a b@c", "sip:a@b;x=y", "sip:a/b@c", "sip:a@b/c"} {
		if _, err := c.AssignNumber(ctx, alice, bad, portal.NumberOptions{}); rest.Status(err) != 400 {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := c.AllocateNumber(ctx, "nobody@example.com", portal.NumberOptions{}); rest.Status(err) != 404 {
		t.Errorf("unknown account: %v", err)
	}
	w.block(t, portal.NumberBlock{Start: "100", Count: 1})
	if _, err := c.AllocateNumber(ctx, alice, portal.NumberOptions{PrivateID: "unknown@example.com"}); rest.Status(err) != 502 {
		t.Errorf("unknown private identity: %v", err)
	}
	taken, err := c.AllocateNumber(ctx, alice, portal.NumberOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AssignNumber(ctx, bob, taken.SIPURI, portal.NumberOptions{}); rest.Status(err) != 409 {
		t.Errorf("a pool number of somebody else: %v", err)
	}
}

func TestAddressBook(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.block(t, portal.NumberBlock{Start: "100", Count: 2})
	user := w.account(t, alice)
	line, err := user.AllocateNumber(ctx, alice, portal.NumberOptions{})
	if err != nil {
		t.Fatal(err)
	}
	read := func() string {
		status, body, _ := do(t, http.MethodGet, w.urls[0]+"/gab/", "", "", http.Header{"NGV-API-Key": {key}})
		if status != 200 {
			t.Errorf("%d %s", status, body)
		}
		return body
	}
	if got := read(); !strings.Contains(got, line.SIPURI) || !strings.Contains(got, `"full_name":"Some Body"`) {
		t.Errorf("got %s", got)
	}
	if err := user.SetListed(ctx, alice, line.SIPURI, false); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != `{"contacts":[]}`+"\n" {
		t.Errorf("got %s", got)
	}
	if err := user.SetListed(ctx, alice, "sip:999@example.com", true); !rest.IsNotFound(err) {
		t.Errorf("a stranger's line: %v", err)
	}
	if status, _, _ := do(t, http.MethodGet, w.urls[0]+"/gab", "", "", nil); status != 403 {
		t.Errorf("without authentication: %d", status)
	}
}

// do sends a raw request without following redirections.
func do(t *testing.T, method, target, contentType, body string, header http.Header) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header.Set(name, values[0])
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), resp.Header
}

func TestRawRequests(t *testing.T) {
	w := newWorld(t)
	w.account(t, alice)
	form := "application/x-www-form-urlencoded"
	withKey := http.Header{"NGV-API-Key": {key}}
	code := http.Header{"NGV-Signup-Code": {"secret"}}
	signup := "email=carol@example.com&password=password&full_name=Carol"
	for name, c := range map[string]struct {
		method, path, contentType, body string
		header                          http.Header
		want                            int
	}{
		"form with code header":     {"POST", "/accounts/", form, signup, code, 201},
		"JSON guessed by braces":    {"POST", "/accounts", "", `{"email":"dave@example.com","password":"password","full_name":"D","signup_code":"secret"}`, nil, 201},
		"existing":                  {"POST", "/accounts", form, strings.Replace(signup, "carol@example.com", alice, 1), code, 409},
		"wrong code":                {"POST", "/accounts", form, signup, http.Header{"NGV-Signup-Code": {"x"}}, 403},
		"no code":                   {"POST", "/accounts", form, signup, nil, 403},
		"short password":            {"POST", "/accounts", form, "email=e@example.com&password=12345&full_name=E", code, 400},
		"long password":             {"POST", "/accounts", form, "email=e@example.com&full_name=E&password=" + strings.Repeat("x", 73), code, 400},
		"bad email":                 {"POST", "/accounts", form, "email=e/example.com&password=password&full_name=E", code, 400},
		"no name":                   {"POST", "/accounts", form, "email=e@example.com&password=password", code, 400},
		"bad expiry":                {"POST", "/accounts", form, "email=e@example.com&password=password&full_name=E&expires=soon", code, 400},
		"broken JSON":               {"POST", "/accounts", "application/json", `{"email":`, code, 400},
		"JSON list":                 {"POST", "/accounts", "application/json", `[1]`, code, 400},
		"nested JSON":               {"POST", "/accounts", "application/json", `{"email":{"a":1}}`, code, 400},
		"two JSON":                  {"POST", "/accounts", "application/json", `{}{}`, code, 400},
		"deep JSON":                 {"POST", "/accounts", "application/json", `{"a":` + strings.Repeat("[", 20000), code, 400},
		"bad form":                  {"POST", "/accounts", form, "a=%zz", code, 400},
		"multipart":                 {"POST", "/accounts", "multipart/form-data; boundary=x", "--x", code, 415},
		"huge body":                 {"POST", "/accounts", form, "a=" + strings.Repeat("x", 1<<20), code, 413},
		"wrong method":              {"PATCH", "/accounts", "", "", code, 405},
		"get of accounts":           {"GET", "/accounts", "", "", code, 405},
		"unknown path":              {"GET", "/nothing", "", "", nil, 404},
		"login wrong password":      {"POST", "/session", form, "email=" + alice + "&password=wrong", nil, 403},
		"login unknown":             {"POST", "/session", form, "email=nobody@example.com&password=password", nil, 403},
		"login JSON":                {"POST", "/session", "application/json", `{"email":"` + alice + `","password":"password"}`, nil, 201},
		"numbers without any":       {"GET", "/accounts/" + alice + "/numbers", "", "", nil, 403},
		"numbers with key":          {"GET", "/accounts/" + alice + "/numbers/", "", "", withKey, 200},
		"numbers with the seed key": {"GET", "/accounts/" + alice + "/numbers", "", "", http.Header{"X-NGV-API": {key}}, 200},
		"numbers wrong key":         {"GET", "/accounts/" + alice + "/numbers", "", "", http.Header{"NGV-API-Key": {"x"}}, 403},
		"numbers of nobody":         {"GET", "/accounts/nobody@example.com/numbers", "", "", withKey, 404},
		"forged cookie":             {"GET", "/accounts/" + alice + "/numbers", "", "", http.Header{"Cookie": {"username=YWxpY2VfMUBleGFtcGxlLmNvbQ|99999999999|AAAA"}}, 403},
		"strange cookie":            {"GET", "/accounts/" + alice + "/numbers", "", "", http.Header{"Cookie": {"username=" + alice}}, 403},
		"empty pool":                {"POST", "/accounts/" + alice + "/numbers", form, "pstn=false", withKey, 503},
		"pstn maybe":                {"POST", "/accounts/" + alice + "/numbers", form, "pstn=maybe", withKey, 400},
		"delete unknown line":       {"DELETE", "/accounts/" + alice + "/numbers/sip:1@example.com", "", "", withKey, 404},
		"simservs of unknown line":  {"GET", "/accounts/" + alice + "/numbers/sip:1@example.com/simservs", "", "", withKey, 404},
		"password of unknown line":  {"POST", "/accounts/" + alice + "/numbers/sip:1@example.com/password", "", "", withKey, 404},
		"recovery mail":             {"POST", "/accounts/" + alice + "/password", "", "", nil, 503},
		"listed/2":                  {"PUT", "/accounts/" + alice + "/numbers/sip:1@example.com/listed/2", "", "", withKey, 404},
		"block without key":         {"PUT", "/number-blocks/100", "application/json", `{"count":1}`, nil, 403},
		"block other start":         {"PUT", "/number-blocks/100", "application/json", `{"start":"200","count":1}`, withKey, 400},
		"block half count":          {"PUT", "/number-blocks/100", "application/json", `{"count":1.5}`, withKey, 400},
		"unknown block":             {"GET", "/number-blocks/777", "", "", withKey, 404},
		"delete unknown account":    {"DELETE", "/accounts/nobody@example.com", "", "", withKey, 404},
		"delete without key":        {"DELETE", "/accounts/" + alice, "", "", nil, 403},
	} {
		status, body, header := do(t, c.method, w.urls[0]+c.path, c.contentType, c.body, c.header)
		if status != c.want {
			t.Errorf("%s: %d %s, want %d", name, status, body, c.want)
			continue
		}
		if status < 400 {
			continue
		}
		var e struct {
			Error           bool
			Status          int
			Message, Reason string
			Detail          map[string]any
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil || !e.Error || e.Status != status || e.Message != http.StatusText(status) || e.Reason == "" || e.Detail == nil {
			t.Errorf("%s: error body %q, %v", name, body, err)
		}
		if status == 503 && header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", name)
		}
	}
}

func TestMessagePackOnDemand(t *testing.T) {
	w := newWorld(t)
	_, body, header := do(t, "GET", w.urls[0]+"/gab", "", "", http.Header{"NGV-API-Key": {key}, "Accept": {"application/x-msgpack"}})
	if header.Get("Content-Type") != "application/x-msgpack" || body != "\x81\xa8contacts\x90" {
		t.Errorf("%s %q", header.Get("Content-Type"), body)
	}
}

func TestFormRedirections(t *testing.T) {
	w := newWorld(t)
	form := "application/x-www-form-urlencoded"
	body := "email=" + alice + "&password=password&full_name=A&signup_code=secret&onsuccess=/done.html&onfailure=/bad.html?x=1"
	status, _, header := do(t, "POST", w.urls[0]+"/accounts", form, body, nil)
	target, err := url.Parse(header.Get("Location"))
	if err != nil || status != 302 || target.Path != "/done.html" || target.Query().Get("success") != "true" || target.Query().Get("status") != "201" ||
		!strings.Contains(target.Query().Get("data"), alice) {
		t.Errorf("success: %d %s", status, header.Get("Location"))
	}
	status, _, header = do(t, "POST", w.urls[0]+"/accounts", form, body, nil)
	target, err = url.Parse(header.Get("Location"))
	if err != nil || status != 302 || target.Path != "/bad.html" || target.Query().Get("x") != "1" || target.Query().Get("error") != "true" ||
		target.Query().Get("status") != "409" || target.Query().Get("reason") == "" {
		t.Errorf("failure: %d %s", status, header.Get("Location"))
	}
	for _, evil := range []string{"https://evil.example/", "//evil.example/", `/\evil.example`, "javascript:alert(1)"} {
		status, _, header = do(t, "POST", w.urls[0]+"/session?onfailure="+url.QueryEscape(evil), form, "email=x&password=y", nil)
		if status != 403 || header.Get("Location") != "" {
			t.Errorf("%s: %d to %s", evil, status, header.Get("Location"))
		}
	}
}

func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	user := w.account(t, alice)
	if _, err := user.Numbers(ctx, alice); err != nil {
		t.Fatal(err)
	}
	if _, err := user.Numbers(ctx, "bob@example.com"); rest.Status(err) != 403 {
		t.Errorf("another user's numbers: %v", err)
	}
	status, body, _ := do(t, "POST", w.urls[0]+"/accounts/"+alice+"/password", "text/plain", "new password\n", http.Header{"NGV-API-Key": {key}})
	if status != 200 {
		t.Fatalf("setting the password: %d %s", status, body)
	}
	if _, err := user.Numbers(ctx, alice); rest.Status(err) != 403 {
		t.Errorf("old session after a new password: %v", err)
	}
	again, err := portal.New(w.urls[0], nil, "").Login(ctx, alice, "new password")
	if err != nil {
		t.Fatal(err)
	}
	w.clock.advance(31 * 24 * time.Hour)
	if _, err := again.Numbers(ctx, alice); rest.Status(err) != 403 {
		t.Errorf("session after a month: %v", err)
	}
}

func TestExpiredAccounts(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.block(t, portal.NumberBlock{Start: "100", Count: 1})
	_, err := w.operator(0).CreateAccount(ctx, portal.NewAccount{Email: "demo@example.com", Password: "password", FullName: "Demo", Expires: "7"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.operator(0).AllocateNumber(ctx, "demo@example.com", portal.NumberOptions{}); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(8 * 24 * time.Hour)
	if _, err := portal.New(w.urls[0], nil, "").Login(ctx, "demo@example.com", "password"); rest.Status(err) != 403 {
		t.Errorf("login after expiry: %v", err)
	}
	if n, err := w.apis[0].RemoveExpired(ctx); n != 1 || err != nil {
		t.Errorf("%d removed, %v", n, err)
	}
	if b, err := w.operator(0).NumberBlock(ctx, "100"); err != nil || b.Free != 1 {
		t.Errorf("%+v, %v", b, err)
	}
}

// away is a store that does not answer.
type away struct{ rows.Store }

var errAway = errors.New("no store node answers")

func (away) Get(context.Context, string, ...string) ([]*records.Row, error) { return nil, errAway }
func (away) Swap(context.Context, string, string, uint64, []byte) (uint64, bool, error) {
	return 0, false, errAway
}

func TestStoreAway(t *testing.T) {
	w := newWorld(t)
	w.store, w.urls = away{}, nil
	w.node(t, "http://127.24.3.1:1", "http://127.24.3.1:1")
	for _, path := range []string{"/accounts/" + alice + "/numbers", "/number-blocks/100"} {
		if status, body, _ := do(t, "GET", w.urls[0]+path, "", "", http.Header{"NGV-API-Key": {key}}); status != 503 || !strings.Contains(body, "state store") {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}
