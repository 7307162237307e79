package subscribers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// faulty is a store that fails or lies in between when told to.
type faulty struct {
	*records.Memory
	mu    sync.Mutex
	after int // writes until one fails; negative = never
	done  bool
	gets  int
}

// fault says whether this write fails, and whether it is executed nevertheless.
func (f *faulty) fault() (fails, executed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.after < 0 {
		return false, true
	}
	f.after--
	return f.after < 0, f.done
}

func (f *faulty) Get(ctx context.Context, table string, keys ...string) ([]*records.Row, error) {
	f.mu.Lock()
	f.gets++
	f.mu.Unlock()
	return f.Memory.Get(ctx, table, keys...)
}

func (f *faulty) Swap(ctx context.Context, table, key string, version uint64, value []byte) (uint64, bool, error) {
	fails, executed := f.fault()
	if !fails || executed {
		now, ok, err := f.Memory.Swap(ctx, table, key, version, value)
		if !fails || err != nil {
			return now, ok, err
		}
	}
	return 0, false, rpc.ErrInterrupted
}

func (f *faulty) Delete(ctx context.Context, table, key string, version uint64) (bool, error) {
	fails, executed := f.fault()
	if !fails || executed {
		ok, err := f.Memory.Delete(ctx, table, key, version)
		if !fails || err != nil {
			return ok, err
		}
	}
	return false, rpc.ErrInterrupted
}

func newDB() (*DB, *faulty) {
	f := &faulty{Memory: records.NewMemory(), after: -1}
	return New(f), f
}

// add makes a set with one profile, as provisioning does.
func add(t testing.TB, db *DB, impi string, uris ...string) (set, profile string) {
	t.Helper()
	ctx := context.Background()
	set, err := db.CreateSet(ctx)
	if err == nil {
		profile, err = db.CreateProfile(ctx, set)
	}
	if err == nil {
		err = db.PutPrivate(ctx, impi, Credentials{DigestHA1: "0123", Realm: "example.com"})
	}
	if err == nil {
		err = db.Link(ctx, impi, set)
	}
	for _, uri := range uris {
		if err == nil {
			err = db.PutPublic(ctx, set, profile, public(uri))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return set, profile
}

func public(uri string) *Public {
	key, err := Key(uri)
	if err != nil {
		panic(err)
	}
	return &Public{Key: key, Uri: uri}
}

func TestFind(t *testing.T) {
	db, store := newDB()
	ctx := t.Context()
	set, profile := add(t, db, "alice@example.com", "sip:alice@Example.com", "tel:+1-555-1000")
	for range 2 {
		f, err := db.Find(ctx, "alice@example.com", "tel:+15551000")
		if err != nil || !f.Paired("alice@example.com") || f.Public.GetUri() != "tel:+1-555-1000" || f.Profile.GetId() != profile || f.Set.GetId() != set {
			t.Fatalf("got %+v, %v", f, err)
		}
	}
	before := store.gets
	if _, err := db.Find(ctx, "alice@example.com", "tel:+15551000"); err != nil || store.gets != before+1 {
		t.Errorf("a known identity took %d questions to the store, %v", store.gets-before, err)
	}
	if _, err := db.Public(ctx, "sip:nobody@example.com"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	// The identity moves to another set: what is remembered must not be believed.
	if err := db.DeleteSet(ctx, set); err != nil {
		t.Fatal(err)
	}
	if f, err := db.Find(ctx, "alice@example.com", "tel:+15551000"); err != nil || f.Set != nil {
		t.Errorf("a deleted set is still found: %+v, %v", f, err)
	}
	other, _ := add(t, db, "bob@example.com", "tel:+15551000")
	if f, err := db.Find(ctx, "bob@example.com", "tel:+15551000"); err != nil || f.Set.GetId() != other || !f.Paired("bob@example.com") {
		t.Errorf("got %+v, %v", f, err)
	}
}

func TestDefaultIdentity(t *testing.T) {
	for name, tc := range map[string]struct {
		ids  []*Public
		want string
	}{
		"first":             {[]*Public{{Key: "sip:a"}, {Key: "sip:b"}}, "sip:a"},
		"first unbarred":    {[]*Public{{Key: "sip:a", Barred: true}, {Key: "sip:b"}}, "sip:b"},
		"sip before tel":    {[]*Public{{Key: "tel:+1"}, {Key: "sip:b"}}, "sip:b"},
		"tel if nothing":    {[]*Public{{Key: "tel:+1"}, {Key: "sip:b", Barred: true}}, "tel:+1"},
		"all barred":        {[]*Public{{Key: "sip:b", Barred: true}}, ""},
		"no identity":       {nil, ""},
		"over two profiles": {[]*Public{{Key: "tel:+1"}, nil, {Key: "sip:c"}}, "sip:c"},
	} {
		s := &Set{Profiles: []*Profile{{}}}
		for _, id := range tc.ids {
			if id == nil {
				s.Profiles = append(s.Profiles, &Profile{})
				continue
			}
			last := s.Profiles[len(s.Profiles)-1]
			last.PublicIds = append(last.PublicIds, id)
		}
		if got, ok := s.Default(); ok != (tc.want != "") || got.GetKey() != tc.want {
			t.Errorf("%s: got %q, want %q", name, got.GetKey(), tc.want)
		}
	}
}

func TestMismatches(t *testing.T) {
	db, _ := newDB()
	ctx := t.Context()
	set1, profile1 := add(t, db, "alice@example.com", "sip:alice@example.com")
	set2, profile2 := add(t, db, "bob@example.com", "sip:bob@example.com")
	for name, tc := range map[string]struct{ got, want error }{
		"profile of another set":       {db.PutCriteria(ctx, set1, profile2, ""), ErrMismatch},
		"deleting it":                  {db.DeleteProfile(ctx, set1, profile2), ErrMismatch},
		"profile that is not":          {db.PutCriteria(ctx, set1, newID(), ""), ErrNotFound},
		"set that is not":              {db.PutCriteria(ctx, newID(), profile1, ""), ErrNotFound},
		"identity of another profile":  {db.PutPublic(ctx, set2, profile2, public("sip:alice@example.com")), ErrMismatch},
		"deleting it there":            {db.DeletePublic(ctx, set2, profile2, "sip:alice@example.com"), ErrMismatch},
		"linking a private that isn't": {db.Link(ctx, "nobody@example.com", set1), ErrNotFound},
		"linking to a set that isn't":  {db.Link(ctx, "alice@example.com", newID()), ErrNotFound},
		"deleting nothing":             {db.DeleteSet(ctx, newID()), nil},
		"deleting nobody":              {db.DeletePrivate(ctx, "nobody@example.com"), nil},
		"unlinking a stranger":         {db.Unlink(ctx, "bob@example.com", set1), nil},
	} {
		if !errors.Is(tc.got, tc.want) {
			t.Errorf("%s: got %v, want %v", name, tc.got, tc.want)
		}
	}
	if f, err := db.Find(ctx, "alice@example.com", "sip:alice@example.com"); err != nil || !f.Paired("alice@example.com") {
		t.Errorf("a refused change did harm: %+v, %v", f, err)
	}
}

func TestConcurrentChangesOfOneSetAreAllKept(t *testing.T) {
	db, _ := newDB()
	set, profile := add(t, db, "alice@example.com")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := db.PutPublic(t.Context(), set, profile, public(fmt.Sprintf("sip:u%d@example.com", i))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := db.Set(t.Context(), set)
	if err != nil || len(s.Publics()) != 20 {
		t.Errorf("%d identities, %v", len(s.Publics()), err)
	}
}

func TestOneIdentityIsPutIntoOneProfileOnly(t *testing.T) {
	for range 300 {
		db, _ := newDB()
		var sets, profiles [3]string
		var errs [3]error
		for i := range sets {
			sets[i], profiles[i] = add(t, db, fmt.Sprintf("p%d@example.com", i))
		}
		var wg sync.WaitGroup
		for i := range sets {
			wg.Go(func() { errs[i] = db.PutPublic(t.Context(), sets[i], profiles[i], public("sip:x@example.com")) })
		}
		wg.Wait()
		f, err := db.Find(t.Context(), "", "sip:x@example.com")
		if err != nil {
			t.Fatal(err)
		}
		winners := 0
		for i := range sets {
			s, _ := db.Set(t.Context(), sets[i])
			id, _ := s.Public("sip:x@example.com")
			if errs[i] == nil {
				winners++
			} else if !errors.Is(errs[i], ErrMismatch) {
				t.Fatal(errs[i])
			}
			if has := id != nil; has != (f.Set.GetId() == sets[i]) || has != (errs[i] == nil) {
				t.Fatalf("set %d was told %v and has the identity: %v; it is found in %q", i, errs[i], has, f.Set.GetId())
			}
		}
		if winners > 1 {
			t.Fatalf("%d callers were told that they have the identity", winners)
		}
	}
}

// A claim whose maker died keeps others off only for a while.
func TestDeadClaimsAreTakenOver(t *testing.T) {
	for _, writes := range []int{1, 2} { // the claim; the claim and the set
		db, store := newDB()
		now := time.Now()
		db.now = func() time.Time { return now }
		set1, profile1 := add(t, db, "a@x")
		set2, profile2 := add(t, db, "b@x")
		store.after = writes
		if err := db.PutPublic(t.Context(), set1, profile1, public("sip:x@x")); err == nil {
			t.Fatal("nothing failed")
		}
		store.after = -1
		if err := db.PutPublic(t.Context(), set2, profile2, public("sip:x@x")); !errors.Is(err, ErrMismatch) {
			t.Errorf("while the claim lasts: %v", err)
		}
		now = now.Add(claimLasts + time.Second)
		if err := db.PutPublic(t.Context(), set2, profile2, public("sip:x@x")); err != nil {
			t.Errorf("after the claim: %v", err)
		}
		if s, err := db.Set(t.Context(), set1); err != nil || len(s.Publics()) != 0 {
			t.Errorf("the dead one still has it: %v, %v", s, err)
		}
		if f, err := db.Public(t.Context(), "sip:x@x"); err != nil || f.Set.GetId() != set2 {
			t.Errorf("found %v, %v", f.Set, err)
		}
	}
}

// Every change may be repeated after a write failed at any place, executed or not, and then is complete: as if
// nothing had failed.
func TestChangesAreRepairedByRepeating(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		db, store := newDB()
		set, profile := add(t, db, "a@x", "sip:a@x", "sip:b@x")
		set2, profile2 := add(t, db, "b@x", "sip:c@x")
		changes := map[string]func() error{
			"delete set":     func() error { return db.DeleteSet(ctx, set) },
			"delete private": func() error { return db.DeletePrivate(ctx, "a@x") },
			"delete profile": func() error { return notFoundIsDone(db.DeleteProfile(ctx, set, profile)) },
			"delete public":  func() error { return notFoundIsDone(db.DeletePublic(ctx, set, profile, "sip:a@x")) },
			"link":           func() error { return db.Link(ctx, "a@x", set2) },
			"unlink":         func() error { return db.Unlink(ctx, "a@x", set) },
			"put public":     func() error { return db.PutPublic(ctx, set2, profile2, public("sip:new@x")) },
			"put private":    func() error { return db.PutPrivate(ctx, "a@x", Credentials{DigestHA1: "1", Realm: "r"}) },
			"put criteria":   func() error { return db.PutCriteria(ctx, set2, profile2, "<a/>") },
			"replace public": func() error {
				return db.PutPublic(ctx, set2, profile2, &Public{Key: "sip:c@x", Uri: "sip:c@x", Barred: true})
			},
		}
		names := make([]string, 0, len(changes))
		for name := range changes {
			names = append(names, name)
		}
		slices.Sort(names)
		name := rapid.SampledFrom(names).Draw(rt, "change")
		store.after, store.done = rapid.IntRange(0, 8).Draw(rt, "writes before the fault"), rapid.Bool().Draw(rt, "executed")
		err := changes[name]()
		store.after = -1
		if err != nil {
			if !errors.Is(err, rpc.ErrUnavailable) {
				rt.Fatalf("%s: %v", name, err)
			}
			if err := changes[name](); err != nil {
				rt.Fatalf("repeating %s: %v", name, err)
			}
		}
		checkConsistent(rt, db, store)
		expect := map[string]bool{ // public identity -> found
			"sip:a@x": name != "delete set" && name != "delete profile" && name != "delete public",
			"sip:b@x": name != "delete set" && name != "delete profile", "sip:c@x": true, "sip:new@x": name == "put public",
		}
		for key, want := range expect {
			f, err := db.Find(ctx, "", key)
			if err != nil || (f.Set != nil) != want {
				rt.Errorf("after %s: %s found: %v, want %v (%v)", name, key, f.Set != nil, want, err)
			}
		}
	})
}

func notFoundIsDone(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// checkConsistent demands that no row points to what does not point back.
func checkConsistent(t interface{ Errorf(string, ...any) }, db *DB, store *faulty) {
	ctx := context.Background()
	rows, _, err := store.Scan(ctx, table, "", "", 1000)
	if err != nil {
		t.Errorf("%v", err)
	}
	for _, row := range rows {
		switch key := row.GetKey(); {
		case len(key) > len(publicRow) && key[:len(publicRow)] == publicRow:
			if _, err := db.Public(ctx, key[len(publicRow):]); err != nil {
				t.Errorf("%s leads nowhere: %v", key, err)
			}
		case len(key) > len(setRow) && key[:len(setRow)] == setRow:
			s, _ := db.Set(ctx, key[len(setRow):])
			for _, impi := range s.GetPrivateIds() {
				if p, err := db.Private(ctx, impi); err != nil || !slices.Contains(p.GetSets(), s.GetId()) {
					t.Errorf("%s does not know its set: %v", impi, err)
				}
			}
		case len(key) > len(profileRow) && key[:len(profileRow)] == profileRow:
			p := &Pointer{}
			if _, err := db.read(ctx, []string{key}, p); err != nil {
				t.Errorf("%v", err)
			}
			if s, err := db.Set(ctx, p.GetSet()); err != nil || s.Profile(p.GetProfile()) == nil {
				t.Errorf("%s leads nowhere: %v", key, err)
			}
		}
	}
}

func TestList(t *testing.T) {
	db, _ := newDB()
	want := map[string]bool{}
	for i := range 25 {
		uris := []string{fmt.Sprintf("sip:u%02d@example.com", i), fmt.Sprintf("tel:+1%02d", i)}
		add(t, db, fmt.Sprintf("u%d@example.com", i), uris...)
		want[uris[0]], want[uris[1]] = true, true
	}
	got := map[string]bool{}
	after, more := "", true
	for more {
		var page []Listed
		var err error
		if page, after, more, err = db.List(t.Context(), after, 7); err != nil {
			t.Fatal(err)
		}
		for _, l := range page {
			if got[l.URI] || l.Set == "" || l.Profile == "" {
				t.Errorf("listed twice or incompletely: %+v", l)
			}
			got[l.URI] = true
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d identities listed, want %d", len(got), len(want))
	}
}

func TestStoreAwayIsAnError(t *testing.T) {
	db, store := newDB()
	set, profile := add(t, db, "a@x")
	store.after = 0
	if err := db.PutPublic(t.Context(), set, profile, public("sip:a@x")); !errors.Is(err, rpc.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestKey(t *testing.T) {
	for uri, want := range map[string]string{
		"sip:Alice@EXAMPLE.com": "sip:Alice@example.com", "tel:+1 (555)": "", "tel:+1-555": "tel:+1555", "mailto:a@b": "", "": "", "sip:": "",
	} {
		got, err := Key(uri)
		if got != want || (err != nil) != (want == "") || (err != nil && !errors.Is(err, ErrInvalid)) {
			t.Errorf("%q: got %q, %v, want %q", uri, got, err, want)
		}
	}
}
