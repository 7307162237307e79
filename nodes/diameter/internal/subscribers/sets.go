package subscribers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
)

// CreateSet makes an empty set and returns its id.
func (db *DB) CreateSet(ctx context.Context) (string, error) {
	id := newID()
	return id, change(ctx, db, setRow+id, func(s *Set, _ bool) (verdict, error) {
		s.Id = id
		return write, nil
	})
}

// DeleteSet removes a set with its profiles and public identities and unlinks its private ones. That it does not
// exist is no error.
func (db *DB) DeleteSet(ctx context.Context, id string) error {
	return change(ctx, db, setRow+id, func(s *Set, there bool) (verdict, error) {
		if !there {
			return keep, nil
		}
		for _, p := range s.GetProfiles() {
			if err := db.dropHints(ctx, id, p); err != nil {
				return keep, err
			}
		}
		for _, impi := range s.GetPrivateIds() {
			if err := db.forgetSet(ctx, impi, id); err != nil {
				return keep, err
			}
		}
		return remove, nil
	})
}

// dropHints deletes the rows that point to a profile and its identities.
func (db *DB) dropHints(ctx context.Context, set string, p *Profile) error {
	for _, id := range p.GetPublicIds() {
		if err := db.dropPointer(ctx, publicRow+id.GetKey(), set, p.GetId()); err != nil {
			return err
		}
	}
	return db.dropPointer(ctx, profileRow+p.GetId(), set, p.GetId())
}

// dropPointer deletes a pointer if it still points there.
func (db *DB) dropPointer(ctx context.Context, key, set, profile string) error {
	return change(ctx, db, key, func(p *Pointer, there bool) (verdict, error) {
		if !there || p.GetSet() != set || p.GetProfile() != profile {
			return keep, nil
		}
		return remove, nil
	})
}

// CreateProfile makes an empty profile in a set and returns its id; ErrNotFound if there is no such set.
func (db *DB) CreateProfile(ctx context.Context, set string) (string, error) {
	if _, err := db.set(ctx, set); err != nil {
		return "", err
	}
	id := newID()
	if err := db.point(ctx, profileRow+id, set, id); err != nil {
		return "", err
	}
	return id, db.changeSet(ctx, set, func(s *Set) (verdict, error) {
		s.Profiles = append(s.Profiles, &Profile{Id: id})
		return write, nil
	})
}

func (db *DB) point(ctx context.Context, key, set, profile string) error {
	return change(ctx, db, key, func(p *Pointer, _ bool) (verdict, error) {
		p.Set, p.Profile = set, profile
		return write, nil
	})
}

// DeleteProfile removes a profile with its public identities. That it does not exist is no error; ErrMismatch if it
// is of another set.
func (db *DB) DeleteProfile(ctx context.Context, set, profile string) error {
	return db.changeProfile(ctx, set, profile, func(s *Set, p *Profile) (verdict, error) {
		if err := db.dropHints(ctx, set, p); err != nil {
			return keep, err
		}
		s.Profiles = slices.DeleteFunc(s.Profiles, func(x *Profile) bool { return x.GetId() == profile })
		return write, nil
	})
}

// changeProfile changes a profile that exists in its set; ErrNotFound and ErrMismatch as SetOf.
func (db *DB) changeProfile(ctx context.Context, set, profile string, decide func(*Set, *Profile) (verdict, error)) error {
	return db.changeSet(ctx, set, func(s *Set) (verdict, error) {
		if p := s.Profile(profile); p != nil {
			return decide(s, p)
		}
		return keep, db.noProfile(ctx, set, profile)
	})
}

// PutCriteria replaces a profile's criteria, which are checked XML.
func (db *DB) PutCriteria(ctx context.Context, set, profile, criteria string) error {
	return db.changeProfile(ctx, set, profile, func(_ *Set, p *Profile) (verdict, error) {
		p.Criteria = criteria
		return write, nil
	})
}

// PutPublic adds a public identity to a profile or replaces it there. ErrMismatch if it is in another profile.
func (db *DB) PutPublic(ctx context.Context, set, profile string, id *Public) error {
	if _, _, err := db.SetOf(ctx, set, profile); err != nil {
		return err
	}
	if err := db.claim(ctx, set, profile, id.GetKey()); err != nil {
		return err
	}
	err := db.changeProfile(ctx, set, profile, func(s *Set, p *Profile) (verdict, error) {
		if old, in := s.Public(id.GetKey()); old != nil {
			if in.GetId() != profile {
				return keep, fmt.Errorf("public identity %s in profile %s: %w", id.GetUri(), profile, ErrMismatch)
			}
			proto.Reset(old)
			proto.Merge(old, id)
			return write, nil
		}
		clone, _ := proto.Clone(id).(*Public)
		p.PublicIds = append(p.PublicIds, clone)
		return write, nil
	})
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrMismatch) { // else it may have been written
		return errors.Join(err, db.dropPointer(ctx, publicRow+id.GetKey(), set, profile))
	}
	if err != nil {
		return err
	}
	return db.settle(ctx, set, profile, id.GetKey())
}

// claimLasts is how long a claim keeps others off: longer than any call that made it can still be running. After it
// the claimer is dead, and what he left is cleared away.
const claimLasts = 30 * time.Second

// claim points a public identity to a profile before it is written there, unless another profile holds or claims it.
func (db *DB) claim(ctx context.Context, set, profile, key string) error {
	return change(ctx, db, publicRow+key, func(p *Pointer, there bool) (verdict, error) {
		if there {
			held, err := db.holds(ctx, p, key)
			settled := held && p.GetClaimedAt() == 0
			mine := p.GetSet() == set && p.GetProfile() == profile
			claimed := db.now().Sub(time.UnixMilli(p.GetClaimedAt())) < claimLasts
			switch {
			case err != nil:
				return keep, err
			case mine && settled:
				return keep, nil
			case !mine && (settled || claimed):
				return keep, fmt.Errorf("public identity %s is in another profile: %w", key, ErrMismatch)
			case !mine && held:
				if err := db.takeOut(ctx, p.GetSet(), p.GetProfile(), key); err != nil && !errors.Is(err, ErrNotFound) {
					return keep, err
				}
			}
		}
		p.Set, p.Profile, p.ClaimedAt = set, profile, db.now().UnixMilli()
		return write, nil
	})
}

// holds tells whether the profile that a pointer names does hold the identity.
func (db *DB) holds(ctx context.Context, p *Pointer, key string) (bool, error) {
	s, err := db.set(ctx, p.GetSet())
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	id, in := s.Public(key)
	return id != nil && in.GetId() == p.GetProfile(), nil
}

// settle ends the claim after the set was written. Who was so slow that another claimed meanwhile takes his copy out
// again.
func (db *DB) settle(ctx context.Context, set, profile, key string) error {
	lost := false
	err := change(ctx, db, publicRow+key, func(p *Pointer, there bool) (verdict, error) {
		lost = !there || p.GetSet() != set || p.GetProfile() != profile
		if lost || p.GetClaimedAt() == 0 {
			return keep, nil
		}
		p.ClaimedAt = 0
		return write, nil
	})
	if err != nil || !lost {
		return err
	}
	return errors.Join(fmt.Errorf("public identity %s was put into another profile or deleted meanwhile: %w", key, ErrMismatch),
		db.takeOut(ctx, set, profile, key))
}

// takeOut removes a public identity from its profile's row.
func (db *DB) takeOut(ctx context.Context, set, profile, key string) error {
	return db.changeProfile(ctx, set, profile, func(_ *Set, p *Profile) (verdict, error) {
		if p.Public(key) == nil {
			return keep, nil
		}
		p.PublicIds = slices.DeleteFunc(p.PublicIds, func(id *Public) bool { return id.GetKey() == key })
		return write, nil
	})
}

// DeletePublic removes a public identity from a profile. That it does not exist is no error; ErrMismatch if it is in
// another profile.
func (db *DB) DeletePublic(ctx context.Context, set, profile, key string) error {
	f, err := db.Find(ctx, "", key)
	if err != nil {
		return err
	}
	if f.Set != nil && (f.Set.GetId() != set || f.Profile.GetId() != profile) {
		return fmt.Errorf("public identity %s in profile %s: %w", key, profile, ErrMismatch)
	}
	if err := db.dropPointer(ctx, publicRow+key, set, profile); err != nil {
		return err
	}
	return db.takeOut(ctx, set, profile, key)
}
