package subscribers

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Private reads a private identity; ErrNotFound. Sets holds only those that do name it.
func (db *DB) Private(ctx context.Context, impi string) (*Private, error) {
	p, _, err := db.privateSets(ctx, impi)
	return p, err
}

// PrivateSets reads the sets of a private identity; ErrNotFound if there is no such identity.
func (db *DB) PrivateSets(ctx context.Context, impi string) ([]*Set, error) {
	_, sets, err := db.privateSets(ctx, impi)
	return sets, err
}

func (db *DB) privateSets(ctx context.Context, impi string) (*Private, []*Set, error) {
	p := &Private{}
	versions, err := db.read(ctx, []string{privateRow + impi}, p)
	if err != nil {
		return nil, nil, err
	}
	if versions[0] == 0 {
		return nil, nil, fmt.Errorf("private identity %s: %w", impi, ErrNotFound)
	}
	var sets []*Set
	for _, id := range p.GetSets() {
		s, err := db.set(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if s.Has(impi) {
			sets = append(sets, s)
		}
	}
	p.Sets = nil
	for _, s := range sets {
		p.Sets = append(p.Sets, s.GetId())
	}
	return p, sets, nil
}

// PutPrivate creates a private identity or replaces its credentials; what it is linked to stays.
func (db *DB) PutPrivate(ctx context.Context, impi, ha1, realm, plaintext string) error {
	return change(ctx, db, privateRow+impi, func(p *Private, _ bool) (verdict, error) {
		p.DigestHa1, p.Realm, p.PlaintextPassword = ha1, realm, plaintext
		return write, nil
	})
}

// DeletePrivate unlinks a private identity from its sets and removes it. That it does not exist is no error.
func (db *DB) DeletePrivate(ctx context.Context, impi string) error {
	return change(ctx, db, privateRow+impi, func(p *Private, there bool) (verdict, error) {
		if !there {
			return keep, nil
		}
		for _, id := range p.GetSets() {
			if err := db.leaveSet(ctx, id, impi); err != nil {
				return keep, err
			}
		}
		return remove, nil
	})
}

// Link lets a private identity register a set; ErrNotFound if either does not exist.
func (db *DB) Link(ctx context.Context, impi, set string) error {
	if _, err := db.set(ctx, set); err != nil {
		return err
	}
	if err := db.hintSet(ctx, impi, set); err != nil {
		return err
	}
	err := db.changeSet(ctx, set, func(s *Set) (verdict, error) {
		if s.Has(impi) {
			return keep, nil
		}
		s.PrivateIds = append(s.PrivateIds, impi)
		return write, nil
	})
	if err != nil {
		return err
	}
	// The identity may have been deleted between the two; then it must not stay in the set.
	if err := db.hintSet(ctx, impi, set); errors.Is(err, ErrNotFound) {
		return errors.Join(err, db.leaveSet(ctx, set, impi))
	} else if err != nil {
		return err
	}
	return nil
}

// hintSet notes in a private identity that a set may name it; ErrNotFound if there is no such identity.
func (db *DB) hintSet(ctx context.Context, impi, set string) error {
	return change(ctx, db, privateRow+impi, func(p *Private, there bool) (verdict, error) {
		switch {
		case !there:
			return keep, fmt.Errorf("private identity %s: %w", impi, ErrNotFound)
		case slices.Contains(p.GetSets(), set):
			return keep, nil
		}
		p.Sets = append(p.Sets, set)
		return write, nil
	})
}

// Unlink takes a private identity out of a set. That it is not in it is no error.
func (db *DB) Unlink(ctx context.Context, impi, set string) error {
	if err := db.leaveSet(ctx, set, impi); err != nil {
		return err
	}
	return db.forgetSet(ctx, impi, set)
}

// leaveSet removes a private identity from a set's row.
func (db *DB) leaveSet(ctx context.Context, set, impi string) error {
	return change(ctx, db, setRow+set, func(s *Set, there bool) (verdict, error) {
		if !there || !s.Has(impi) {
			return keep, nil
		}
		s.PrivateIds = slices.DeleteFunc(s.PrivateIds, func(id string) bool { return id == impi })
		return write, nil
	})
}

// forgetSet removes a set from a private identity's hints.
func (db *DB) forgetSet(ctx context.Context, impi, set string) error {
	return change(ctx, db, privateRow+impi, func(p *Private, there bool) (verdict, error) {
		if !there || !slices.Contains(p.GetSets(), set) {
			return keep, nil
		}
		p.Sets = slices.DeleteFunc(p.Sets, func(id string) bool { return id == set })
		return write, nil
	})
}
