package numbers_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/numbers"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/rows"
)

// backends count the subscribers that exist, and may fail.
type backends struct {
	mu     sync.Mutex
	exists map[string]bool
	fail   func() bool
}

var errBackend = errors.New("failed on purpose")

func (b *backends) CreateSubscriber(_ context.Context, s provisioning.Subscriber) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil && b.fail() {
		return errBackend
	}
	if b.exists[s.PublicIDs[0]] {
		return fmt.Errorf("%s was given out twice", s.PublicIDs[0])
	}
	b.exists[s.PublicIDs[0]] = true
	return nil
}

func (b *backends) DeleteSubscriber(_ context.Context, publicID, _ string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.exists, publicID)
	return nil
}

func (b *backends) PublicPrivateIDs(_ context.Context, publicID string) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.exists[publicID] {
		return nil, &rest.Error{Status: http.StatusNotFound}
	}
	return []string{provisioning.PrivateIDOf(publicID)}, nil
}
func (b *backends) PutSimservs(context.Context, string, string) error { return nil }
func (b *backends) DeleteSimservs(context.Context, string) error      { return nil }

func newPool(store rows.Store, b *backends) *numbers.Numbers {
	return numbers.New(numbers.Deps{Store: store, Subscribers: b, Documents: b, Now: time.Now,
		Usable: func(context.Context, string) error { return nil }})
}

// Several nodes allocate, release and resize at once while backends fail at times. Afterwards nothing is lost: every number is
// free and can be given out, or a line of exactly one account, and only lines have subscribers.
func TestNothingIsLostUnderConcurrency(t *testing.T) {
	store := records.NewMemory()
	b := &backends{exists: map[string]bool{}, fail: func() bool { return rand.IntN(5) == 0 }}
	ctx := t.Context()
	const size = 30
	block := numbers.Block{Start: "100", Count: size, Realm: "example.com"}
	if _, err := newPool(store, b).PutBlock(ctx, block); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			pool, email := newPool(store, b), fmt.Sprintf("user%d@example.com", worker)
			for range 60 {
				if rand.IntN(2) == 0 {
					if _, err := pool.Allocate(ctx, email, numbers.Options{}); err != nil && !errors.Is(err, numbers.ErrEmpty) && !errors.Is(err, errBackend) {
						t.Error(err)
					}
					continue
				}
				lines, err := pool.List(ctx, email)
				if err != nil {
					t.Error(err)
					continue
				}
				if len(lines) > 0 {
					if err := pool.Release(ctx, email, lines[rand.IntN(len(lines))].GetUri(), false); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Go(func() {
		pool := newPool(store, b)
		for range 10 {
			shrunk := block
			shrunk.Count = size - 10
			for _, next := range []numbers.Block{shrunk, block} {
				if _, err := pool.PutBlock(ctx, next); err != nil {
					t.Error(err)
				}
			}
		}
	})
	group.Wait()
	b.mu.Lock()
	b.fail = nil
	b.mu.Unlock()
	pool := newPool(store, b)
	owners := map[string]string{}
	for worker := range 8 {
		email := fmt.Sprintf("user%d@example.com", worker)
		lines, err := pool.List(ctx, email)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if other := owners[line.GetUri()]; other != "" {
				t.Errorf("%s belongs to %s and %s", line.GetUri(), other, email)
			}
			owners[line.GetUri()] = email
		}
	}
	if len(owners) != len(b.exists) {
		t.Errorf("%d lines and %d subscribers", len(owners), len(b.exists))
	}
	counts, err := pool.PutBlock(ctx, block)
	if err != nil {
		t.Fatal(err)
	}
	if counts.Free+counts.InUse != size || counts.InUse != len(owners) {
		t.Errorf("%+v with %d lines, want %d numbers", counts, len(owners), size)
	}
	for range counts.Free {
		if _, err := pool.Allocate(ctx, "last@example.com", numbers.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pool.Allocate(ctx, "last@example.com", numbers.Options{}); !errors.Is(err, numbers.ErrEmpty) {
		t.Errorf("after the last number: %v", err)
	}
}

// A node dies at every possible write of an allocation; a minute later the number is back or the line is whole.
func TestDeathInTheMiddle(t *testing.T) {
	for death := range 12 {
		memory := records.NewMemory()
		b := &backends{exists: map[string]bool{}}
		ctx := t.Context()
		if _, err := newPool(memory, b).PutBlock(ctx, numbers.Block{Start: "1", Count: 1, Realm: "example.com"}); err != nil {
			t.Fatal(err)
		}
		_, died := newPool(&mortal{Store: memory, left: death}, b).Allocate(ctx, "a@example.com", numbers.Options{})
		later := numbers.New(numbers.Deps{Store: memory, Subscribers: b, Documents: b,
			Now: func() time.Time { return time.Now().Add(2 * time.Minute) }, Usable: func(context.Context, string) error { return nil }})
		lines, err := later.List(ctx, "a@example.com")
		var backend *numbers.BackendError
		if errors.As(err, &backend) { // a line without a subscriber: reported once, and released
			lines, err = later.List(ctx, "a@example.com")
		}
		if err != nil {
			t.Fatal(err)
		}
		counts, err := later.PutBlock(ctx, numbers.Block{Start: "1", Count: 1, Realm: "example.com"})
		if err != nil || counts.Free+counts.InUse != 1 || counts.InUse != len(lines) || len(b.exists) != len(lines) {
			t.Errorf("death at write %d (%v): %+v, %d lines, %d subscribers, %v", death, died, counts, len(lines), len(b.exists), err)
		}
		if len(lines) == 0 {
			if _, err := later.Allocate(ctx, "b@example.com", numbers.Options{}); err != nil {
				t.Errorf("death at write %d: the number is lost: %v", death, err)
			}
		}
	}
}

// mortal is a store connection of a node that dies: after some writes nothing reaches the store any more.
type mortal struct {
	rows.Store

	left int
}

var errDead = errors.New("the node is dead")

func (m *mortal) alive() bool {
	m.left--
	return m.left >= 0
}

func (m *mortal) Swap(ctx context.Context, table, key string, version uint64, value []byte) (uint64, bool, error) {
	if !m.alive() {
		return 0, false, errDead
	}
	return m.Store.Swap(ctx, table, key, version, value)
}

func (m *mortal) Delete(ctx context.Context, table, key string, version uint64) (bool, error) {
	if !m.alive() {
		return false, errDead
	}
	return m.Store.Delete(ctx, table, key, version)
}

func TestPasswords(t *testing.T) {
	seen, letters := map[string]bool{}, map[rune]bool{}
	for range 1000 {
		p := numbers.NewPassword()
		if len(p) != 12 || seen[p] {
			t.Fatalf("password %q", p)
		}
		seen[p] = true
		for _, l := range p {
			letters[l] = true
		}
	}
	if len(letters) != 48 {
		t.Errorf("%d different letters", len(letters))
	}
}

// TestSync makes what a restore of different backups makes: a line whose subscriber is gone, and a subscriber behind a free number.
func TestSync(t *testing.T) {
	b := &backends{exists: map[string]bool{}}
	pool, ctx := newPool(records.NewMemory(), b), t.Context()
	if _, err := pool.PutBlock(ctx, numbers.Block{Start: "6505550000", Count: 4, Realm: "example.com"}); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for range 2 {
		line, err := pool.Allocate(ctx, "a@example.com", numbers.Options{})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line.GetUri())
	}
	if f, err := pool.Sync(ctx, true); err != nil || f.Lines != 2 || len(f.Lost)+len(f.Orphans) != 0 {
		t.Fatalf("nothing is wrong, and it finds %+v, %v", f, err)
	}
	delete(b.exists, lines[0])
	orphan := ""
	for i := range 4 {
		if uri := fmt.Sprintf("sip:650555000%d@example.com", i); !b.exists[uri] && uri != lines[0] {
			orphan = uri
		}
	}
	b.exists[orphan] = true
	for _, repair := range []bool{false, true} {
		f, err := pool.Sync(ctx, repair)
		if err != nil || f.Lines != 2 || len(f.Lost) != 1 || f.Lost[0] != lines[0] || len(f.Orphans) != 1 || f.Orphans[0] != orphan {
			t.Errorf("repair %v: it finds %+v, %v; want %s lost and %s an orphan", repair, f, err, lines[0], orphan)
		}
	}
	if f, err := pool.Sync(ctx, false); err != nil || f.Lines != 1 || len(f.Lost)+len(f.Orphans) != 0 || b.exists[orphan] {
		t.Errorf("after the repair it finds %+v, %v", f, err)
	}
	for range 3 { // every other number can be given out
		if _, err := pool.Allocate(ctx, "b@example.com", numbers.Options{}); err != nil {
			t.Error(err)
		}
	}
}
