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

// Credentials replace those of a private identity that are of the same kind: digest (with an HA1) and AKA (with a K).
type Credentials struct {
	Realm, DigestHA1, Plaintext string
	K, OPc, AMF                 []byte
}

// PutPrivate creates a private identity or replaces credentials; what it is linked to stays, and the sequence number
// too: a new key begins where the old one was, so that no number is used twice.
func (db *DB) PutPrivate(ctx context.Context, impi string, c Credentials) error {
	return change(ctx, db, privateRow+impi, func(p *Private, _ bool) (verdict, error) {
		p.Realm = c.Realm
		if c.DigestHA1 != "" {
			p.DigestHa1, p.PlaintextPassword = c.DigestHA1, c.Plaintext
		}
		if len(c.K) > 0 {
			if p.Aka == nil {
				p.Aka = &Aka{}
			}
			p.Aka.K, p.Aka.Opc, p.Aka.Amf = c.K, c.OPc, c.AMF
		}
		return write, nil
	})
}

// Advance changes the sequence number of a private identity's card by swap: next is given the card's row as it is and
// returns the new number; it is called again when somebody else was faster, and its error ends the change. The card is
// returned as it is stored then. ErrNotFound if there is no such identity or it has no AKA credentials.
func (db *DB) Advance(ctx context.Context, impi string, next func(*Aka) (uint64, error)) (*Aka, error) {
	var card *Aka
	err := change(ctx, db, privateRow+impi, func(p *Private, _ bool) (verdict, error) {
		if card = p.GetAka(); card == nil {
			return keep, fmt.Errorf("AKA credentials of %s: %w", impi, ErrNotFound)
		}
		sqn, err := next(card)
		if err != nil {
			return keep, err
		}
		card.Sqn = sqn
		return write, nil
	})
	if err != nil {
		return nil, err
	}
	return card, nil
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
