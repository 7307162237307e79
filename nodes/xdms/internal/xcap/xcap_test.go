package xcap_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/nodes/api/xdms"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/xdms/internal/simservs"
	"github.com/clearwater-ims/clearwater/nodes/xdms/internal/xcap"
)

const alice = "sip:6505550001@example.com"

func start(t *testing.T, store xcap.Store, extra ...xcap.Type) string {
	t.Helper()
	h, err := xcap.New(append([]xcap.Type{xcap.Simservs()}, extra...), store, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, simservs.MaxSize)
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestPutGetDelete(t *testing.T) {
	c := xdms.New(start(t, records.NewMemory()), nil)
	ctx := t.Context()
	if _, err := c.Simservs(ctx, alice); !rest.IsNotFound(err) {
		t.Fatalf("before: %v", err)
	}
	for range 2 {
		if err := c.PutSimservs(ctx, alice, xdms.DefaultSimservs); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := c.Simservs(ctx, alice); err != nil || got != xdms.DefaultSimservs {
		t.Fatalf("got %q, %v", got, err)
	}
	err := c.PutSimservs(ctx, alice, strings.Replace(xdms.DefaultSimservs, ">30<", ">200<", 1))
	if rest.Status(err) != 400 || !strings.Contains(err.Error(), "5 to 180") {
		t.Errorf("bad timer: %v", err)
	}
	if got, err := c.Simservs(ctx, alice); err != nil || got != xdms.DefaultSimservs {
		t.Errorf("a refused document changed what is stored: %q, %v", got, err)
	}
	for range 2 { // 204 always
		if err := c.DeleteSimservs(ctx, alice); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Simservs(ctx, alice); !rest.IsNotFound(err) {
		t.Errorf("after: %v", err)
	}
}

// send sends a raw request and returns status and body.
func send(t *testing.T, method, url, contentType string, body io.Reader) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

func TestStatuses(t *testing.T) {
	base := start(t, records.NewMemory())
	raw := base + "/org.etsi.ngn.simservs/users/" + alice + "/simservs.xml"
	bomb := `<!DOCTYPE s [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><simservs>&b;</simservs>`
	for name, c := range map[string]struct {
		method, url, contentType, body string
		want                           int
	}{
		"put with raw URI":   {"PUT", raw, "application/xml", xdms.DefaultSimservs, 200},
		"put escaped":        {"PUT", base + "/org.etsi.ngn.simservs/users/sip%3Abob%40example.com/simservs.xml", "", xdms.DefaultSimservs, 200},
		"delete":             {"DELETE", raw + "", "", "", 204},
		"post":               {"POST", raw, "", xdms.DefaultSimservs, 405},
		"patch":              {"PATCH", raw, "", "", 405},
		"not a URI":          {"GET", base + "/org.etsi.ngn.simservs/users/alice/simservs.xml", "", "", 404},
		"other file":         {"GET", base + "/org.etsi.ngn.simservs/users/" + alice + "/other.xml", "", "", 404},
		"other usage":        {"GET", base + "/resource-lists/users/" + alice + "/index", "", "", 404},
		"no body":            {"PUT", raw, "", "", 400},
		"json":               {"PUT", raw, "application/json", "{}", 415},
		"bomb":               {"PUT", raw, "application/xml", bomb, 400},
		"huge":               {"PUT", raw, "application/xml", strings.Repeat("x", simservs.MaxSize+1), 413},
		"truncated":          {"PUT", raw, "application/xml", xdms.DefaultSimservs[:200], 400},
		"long name":          {"GET", base + "/org.etsi.ngn.simservs/users/sip:" + strings.Repeat("a", 2000) + "/simservs.xml", "", "", 404},
		"not UTF-8 identity": {"GET", base + "/org.etsi.ngn.simservs/users/sip:%ff@x/simservs.xml", "", "", 404},
	} {
		if got, body := send(t, c.method, c.url, c.contentType, strings.NewReader(c.body)); got != c.want {
			t.Errorf("%s: %d %s, want %d", name, got, body, c.want)
		}
	}
}

func TestConcurrentWritersLoseNothingElse(t *testing.T) {
	store := records.NewMemory()
	first, second := xdms.New(start(t, store), nil), xdms.New(start(t, store), nil) // two nodes
	var group sync.WaitGroup
	for n := range 20 {
		group.Go(func() {
			c := first
			if n%2 == 1 {
				c = second
			}
			document := strings.Replace(xdms.DefaultSimservs, ">30<", fmt.Sprintf(">%d<", 10+n), 1)
			if err := c.PutSimservs(t.Context(), alice, document); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	got, err := first.Simservs(t.Context(), alice)
	if err != nil || simservs.Validate([]byte(got)) != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// away is a store that does not answer.
type away struct{ xcap.Store }

func (away) Get(context.Context, string, ...string) ([]*records.Row, error) {
	return nil, errors.New("no store node answers")
}

func TestStoreAway(t *testing.T) {
	c := xdms.New(start(t, away{}), nil)
	for name, err := range map[string]error{
		"put": c.PutSimservs(t.Context(), alice, xdms.DefaultSimservs), "delete": c.DeleteSimservs(t.Context(), alice),
	} {
		if rest.Status(err) != 503 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Simservs(t.Context(), alice); rest.Status(err) != 503 {
		t.Errorf("get: %v", err)
	}
}

func TestDocumentTypesByConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), xcap.TypesFile)
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if types, err := xcap.LoadTypes(path); err != nil || len(types) != 1 {
		t.Fatalf("no file: %v, %v", types, err)
	}
	write(`{"documents":[{"path":"org.example.notes","file":"notes.xml","table":"notes"}]}`)
	types, err := xcap.LoadTypes(path)
	if err != nil || len(types) != 2 {
		t.Fatalf("%v, %v", types, err)
	}
	url := start(t, records.NewMemory(), types[1]) + "/org.example.notes/users/" + alice + "/notes.xml"
	if got, body := send(t, "PUT", url, "", strings.NewReader("<notes>hello</notes>")); got != 200 {
		t.Errorf("put: %d %s", got, body)
	}
	if got, body := send(t, "GET", url, "", nil); got != 200 || body != "<notes>hello</notes>" {
		t.Errorf("get: %d %s", got, body)
	}
	if got, _ := send(t, "PUT", url, "", strings.NewReader("<notes>")); got != 400 {
		t.Errorf("broken: %d", got)
	}
	for _, bad := range []string{
		`{`, `{"documents":[{"path":"a b","file":"f","table":"t"}]}`, `{"documents":[{"path":"a","file":"f","table":"T!"}]}`,
		`{"documents":[{"path":"a","file":"f","table":"t","schema":"none"}]}`, `{"unknown":1}`,
	} {
		write(bad)
		if _, err := xcap.LoadTypes(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
