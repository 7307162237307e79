package provisioning_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning/provisioningtest"
	"github.com/clearwater-ims/clearwater/nodes/api/rest"
)

func start(t *testing.T) (*provisioning.Client, *provisioningtest.Server) {
	t.Helper()
	double := provisioningtest.New()
	server := httptest.NewServer(double)
	t.Cleanup(server.Close)
	return provisioning.New(server.URL, nil), double
}

var alice = provisioning.Subscriber{
	PublicIDs: []string{"sip:6505550001@example.com", "tel:+16505550001"}, PrivateID: "6505550001@example.com", Password: "s3cret",
}

func TestCreateGetDelete(t *testing.T) {
	c, double := start(t)
	ctx := t.Context()
	for range 2 { // the second time must change nothing
		if err := c.CreateSubscriber(ctx, alice); err != nil {
			t.Fatal(err)
		}
	}
	if privates, sets := double.Counts(); privates != 1 || sets != 1 {
		t.Fatalf("%d private identities and %d sets, want one each", privates, sets)
	}
	got, err := c.GetSubscriber(ctx, alice.PublicIDs[1])
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.PublicIDs, alice.PublicIDs) || got.PrivateID != alice.PrivateID || got.Realm != "example.com" {
		t.Errorf("got %+v", got)
	}
	if want := provisioning.HA1(alice.PrivateID, "example.com", alice.Password); got.DigestHA1 != want || got.Password != "" {
		t.Errorf("digest %q and password %q, want %q and none", got.DigestHA1, got.Password, want)
	}
	if !strings.Contains(got.FilterCriteria, "sip:mmtel.example.com") {
		t.Errorf("filter criteria are %q", got.FilterCriteria)
	}
	for range 2 {
		if err := c.DeleteSubscriber(ctx, alice.PublicIDs[0], alice.PrivateID); err != nil {
			t.Fatal(err)
		}
	}
	if privates, sets := double.Counts(); privates != 0 || sets != 0 {
		t.Errorf("%d private identities and %d sets are left", privates, sets)
	}
	if _, err := c.GetSubscriber(ctx, alice.PublicIDs[0]); !rest.IsNotFound(err) {
		t.Errorf("after deletion: %v", err)
	}
}

// Every call of a creation fails once; nothing may be left, and a second attempt must succeed.
func TestCreateRollsBack(t *testing.T) {
	c, double := start(t)
	if err := c.CreateSubscriber(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	var writes []string
	for _, call := range double.Calls() {
		if !strings.HasPrefix(call, "GET") {
			writes = append(writes, call)
		}
	}
	if len(writes) < 6 {
		t.Fatalf("only %d writes: %v", len(writes), writes)
	}
	for n := range writes {
		c, double := start(t)
		count := 0
		double.Fail(func(method, _ string) int {
			if method == http.MethodPut || method == http.MethodPost {
				count++
				if count == n+1 {
					return http.StatusInternalServerError
				}
			}
			return 0
		})
		if err := c.CreateSubscriber(t.Context(), alice); rest.Status(err) != 500 {
			t.Fatalf("write %d fails: %v", n, err)
		}
		if privates, sets := double.Counts(); privates != 0 || sets != 0 {
			t.Errorf("after failure of write %d: %d private identities and %d sets are left", n, privates, sets)
		}
		if err := c.CreateSubscriber(t.Context(), alice); err != nil {
			t.Errorf("second attempt: %v", err)
		}
	}
}

func TestUpdate(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	if err := c.UpdateSubscriber(ctx, alice); !rest.IsNotFound(err) {
		t.Fatalf("update of nobody: %v", err)
	}
	if err := c.CreateSubscriber(ctx, alice); err != nil {
		t.Fatal(err)
	}
	changed := provisioning.Subscriber{
		PublicIDs: []string{alice.PublicIDs[0], "sip:alice@example.com"}, PrivateID: alice.PrivateID,
		Password: "other", StorePlaintext: true, FilterCriteria: "<ServiceProfile></ServiceProfile>",
	}
	if err := c.UpdateSubscriber(ctx, changed); err != nil {
		t.Fatal(err)
	}
	got, err := c.GetSubscriber(ctx, alice.PublicIDs[0])
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.PublicIDs, changed.PublicIDs) || got.Password != "other" || got.FilterCriteria != changed.FilterCriteria {
		t.Errorf("got %+v", got)
	}
	stranger := alice
	stranger.PrivateID = "mallory@example.com"
	if err := c.CreateSubscriber(ctx, stranger); !errors.Is(err, provisioning.ErrConflict) {
		t.Errorf("taking a public identity over: %v", err)
	}
}

func TestSharedPrivateIdentity(t *testing.T) {
	c, double := start(t)
	ctx := t.Context()
	if err := c.CreateSubscriber(ctx, alice); err != nil {
		t.Fatal(err)
	}
	second := provisioning.Subscriber{PublicIDs: []string{"sip:6505550002@example.com"}, PrivateID: alice.PrivateID}
	if err := c.CreateSubscriber(ctx, second); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteSubscriber(ctx, second.PublicIDs[0], ""); err != nil {
		t.Fatal(err)
	}
	if privates, sets := double.Counts(); privates != 1 || sets != 1 {
		t.Errorf("%d private identities and %d sets, want those of the first line", privates, sets)
	}
	missing := provisioning.Subscriber{PublicIDs: []string{"sip:6505550003@example.com"}, PrivateID: "nobody@example.com"}
	if err := c.CreateSubscriber(ctx, missing); !rest.IsNotFound(err) {
		t.Errorf("sharing an unknown private identity: %v", err)
	}
}

func TestRejectsBadSubscribers(t *testing.T) {
	c, _ := start(t)
	for name, s := range map[string]provisioning.Subscriber{
		"no public identity": {PrivateID: "a@b", Password: "x"},
		"no private":         {PublicIDs: []string{"sip:a@b"}, Password: "x"},
		"both credentials":   {PublicIDs: []string{"sip:a@b"}, PrivateID: "a@b", Password: "x", DigestHA1: "y"},
		"not a URI":          {PublicIDs: []string{"alice"}, PrivateID: "a@b", Password: "x"},
	} {
		if err := c.CreateSubscriber(t.Context(), s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestUnreachableAndDeadline(t *testing.T) {
	c := provisioning.New("http://127.24.0.1:1", nil)
	if _, err := c.Private(t.Context(), "a@b"); !rest.IsUnreachable(err) {
		t.Errorf("closed port: %v", err)
	}
	stuck := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-stuck }))
	defer server.Close()
	defer close(stuck)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := provisioning.New(server.URL, nil).Private(ctx, "a@b"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent server: %v", err)
	}
}

func TestListing(t *testing.T) {
	c, _ := start(t)
	if err := c.CreateSubscriber(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	got, err := c.PublicIDs(t.Context(), provisioning.ListOptions{})
	if err != nil || len(got) != 2 || got[0].PublicID != alice.PublicIDs[0] || got[0].RegistrationSet == "" {
		t.Errorf("got %+v, %v", got, err)
	}
}
