package subscribers

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"
)

// Found is what is known of a private and a public identity.
type Found struct {
	Private *Private // nil: there is none, or none was asked for
	Set     *Set     // of the public identity; nil: there is none
	Public  *Public
	Profile *Profile
}

// Paired tells whether the two belong together.
func (f Found) Paired(impi string) bool { return f.Private != nil && f.Set != nil && f.Set.Has(impi) }

// Find looks up a public identity by its canonical form, and a private one if impi is not empty. Usually it is one
// question to the store: the set that held the identity last time is asked for with the rest.
func (db *DB) Find(ctx context.Context, impi, key string) (Found, error) {
	hint := db.hints.get(key)
	pointer, private, set := &Pointer{}, &Private{}, &Set{}
	keys, into := []string{publicRow + key}, []proto.Message{pointer}
	if impi != "" {
		keys, into = append(keys, privateRow+impi), append(into, private)
	}
	if hint != "" {
		keys, into = append(keys, setRow+hint), append(into, set)
	}
	versions, err := db.read(ctx, keys, into...)
	if err != nil {
		return Found{}, err
	}
	f := Found{}
	if impi != "" && versions[1] != 0 {
		f.Private = private
	}
	if versions[0] == 0 {
		return f, nil
	}
	if hint != pointer.GetSet() {
		set = &Set{}
		if versions, err = db.read(ctx, []string{setRow + pointer.GetSet()}, set); err != nil {
			return Found{}, err
		}
		db.hints.put(key, pointer.GetSet())
	}
	if versions[len(versions)-1] == 0 {
		return f, nil
	}
	if id, profile := set.Public(key); id != nil && profile.GetId() == pointer.GetProfile() {
		f.Set, f.Public, f.Profile = set, id, profile
	}
	return f, nil
}

// hintsLimit bounds the memory for hints: about 100 bytes each.
const hintsLimit = 200_000

// hints remembers in which set an identity was. Wrong ones cost a second question, nothing else.
type hints struct {
	mu   sync.Mutex
	sets map[string]string
}

func (h *hints) get(key string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sets[key]
}

func (h *hints) put(key, set string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sets == nil || len(h.sets) >= hintsLimit {
		h.sets = map[string]string{}
	}
	h.sets[key] = set
}

// Public finds a public identity that exists; ErrNotFound.
func (db *DB) Public(ctx context.Context, key string) (Found, error) {
	f, err := db.Find(ctx, "", key)
	if err == nil && f.Set == nil {
		err = fmt.Errorf("public identity %s: %w", key, ErrNotFound)
	}
	return f, err
}

// Set reads a set; ErrNotFound.
func (db *DB) Set(ctx context.Context, id string) (*Set, error) { return db.set(ctx, id) }

// SetOf reads a set and one of its profiles. ErrNotFound if either does not exist, ErrMismatch if the profile is of
// another set.
func (db *DB) SetOf(ctx context.Context, id, profile string) (*Set, *Profile, error) {
	s, err := db.set(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if p := s.Profile(profile); p != nil {
		return s, p, nil
	}
	return nil, nil, db.noProfile(ctx, id, profile)
}

// noProfile says why a set does not have a profile.
func (db *DB) noProfile(ctx context.Context, id, profile string) error {
	pointer := &Pointer{}
	versions, err := db.read(ctx, []string{profileRow + profile}, pointer)
	switch {
	case err != nil:
		return err
	case versions[0] != 0 && pointer.GetSet() != id:
		return fmt.Errorf("service profile %s in set %s: %w", profile, id, ErrMismatch)
	default:
		return fmt.Errorf("service profile %s: %w", profile, ErrNotFound)
	}
}

// Listed is a public identity of a listing.
type Listed struct{ URI, Set, Profile string }

// List returns public identities in the order of their canonical form, after a given one, and the last one seen.
// more is false at the end. An identity whose set is just being changed may be named or not.
func (db *DB) List(ctx context.Context, after string, limit int) (list []Listed, last string, more bool, err error) {
	if after != "" {
		after = publicRow + after
	}
	rows, more, err := db.rows.Scan(ctx, table, publicRow, after, limit)
	if err != nil {
		return nil, "", false, fmt.Errorf("listing public identities: %w", err)
	}
	for _, row := range rows {
		p := &Pointer{}
		if err := proto.Unmarshal(row.GetValue(), p); err != nil {
			return nil, "", false, fmt.Errorf("decoding the row %s: %w", row.GetKey(), err)
		}
		last = row.GetKey()[len(publicRow):]
		list = append(list, Listed{last, p.GetSet(), p.GetProfile()})
	}
	list, err = db.confirm(ctx, list)
	return list, last, more, err
}

// confirm drops identities that their sets do not know and gives the others' URIs as they were provisioned.
func (db *DB) confirm(ctx context.Context, list []Listed) ([]Listed, error) {
	known := map[string]*Set{}
	var keys []string
	for _, l := range list {
		if known[l.Set] == nil {
			known[l.Set] = &Set{}
			keys = append(keys, setRow+l.Set)
		}
	}
	for len(keys) > 0 {
		part := keys[:min(len(keys), 100)]
		keys = keys[len(part):]
		into := make([]proto.Message, len(part))
		for i, key := range part {
			into[i] = known[key[len(setRow):]]
		}
		if _, err := db.read(ctx, part, into...); err != nil {
			return nil, err
		}
	}
	out := list[:0]
	for _, l := range list {
		if id, p := known[l.Set].Public(l.URI); id != nil && p.GetId() == l.Profile {
			out = append(out, Listed{id.GetUri(), l.Set, l.Profile})
		}
	}
	return out, nil
}
