package numbers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/clearwater-ims/clearwater/nodes/portal/internal/rows"
)

// claimFree takes a random free number for an account. ErrEmpty if there is none.
func (n *Numbers) claimFree(ctx context.Context, email string, pstn bool) (*rows.Number, error) {
	prefix := kind(pstn)
	start := fmt.Sprintf("%s%08x", prefix, rand.Uint32())
	for _, from := range []string{start, ""} { // from a random point to the end, then everything
		for after := from; ; {
			hints, err := n.free.After(ctx, prefix, after, 16)
			if err != nil {
				return nil, err
			}
			if len(hints) == 0 {
				break
			}
			after = hints[len(hints)-1]
			rand.Shuffle(len(hints), func(i, j int) { hints[i], hints[j] = hints[j], hints[i] })
			for _, hint := range hints {
				if claimed, err := n.claimHinted(ctx, email, hint); err != nil || claimed != nil {
					return claimed, err
				}
			}
		}
	}
	return nil, ErrEmpty
}

// claimHinted takes the number of a hint, or returns nil if it is not free and then removes the hint.
func (n *Numbers) claimHinted(ctx context.Context, email, hint string) (*rows.Number, error) {
	claimed, err := n.claim(ctx, email, uriOf(hint))
	if errors.Is(err, ErrTaken) || errors.Is(err, rows.ErrNotFound) {
		return nil, n.removeFreeHint(ctx, hint)
	}
	if err != nil {
		return nil, err
	}
	return claimed, n.free.Remove(ctx, hint)
}

// removeFreeHint removes a hint that turned out wrong. The number may have become free between the look and the removal:
// then the hint that its releaser wrote is gone too, and is written again.
func (n *Numbers) removeFreeHint(ctx context.Context, hint string) error {
	if err := n.free.Remove(ctx, hint); err != nil {
		return err
	}
	r, err := n.table.Get(ctx, uriOf(hint))
	if errors.Is(err, rows.ErrNotFound) || (err == nil && r.GetState() != rows.Number_FREE) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("checking %s: %w", uriOf(hint), err)
	}
	return n.free.Add(ctx, hint)
}

// claim takes a number that has a row and is free. The owner's hint is written first, so that the account always finds what it
// holds. Errors: ErrTaken, rows.ErrNotFound.
func (n *Numbers) claim(ctx context.Context, email, uri string) (*rows.Number, error) {
	if err := n.owned.Add(ctx, ownedKey(email, uri)); err != nil {
		return nil, err
	}
	mark := randomHex(8)
	claimed, err := n.table.Update(ctx, uri, func(r *rows.Number) error {
		if r.GetClaim() == mark {
			return nil // an earlier swap whose answer was lost had succeeded
		}
		if r.GetState() != rows.Number_FREE {
			return ErrTaken
		}
		n.mark(r, email, mark)
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, n.unhint(ctx, email, uri))
	}
	return claimed, nil
}

func (n *Numbers) mark(r *rows.Number, email, mark string) {
	r.State, r.Owner, r.Claim, r.ClaimedAt = rows.Number_PROVISIONING, email, mark, n.deps.Now().Unix()
	r.NumberId, r.Listed = randomHex(16), true // the address book holds a new line unless its owner takes it out
}

// unhint removes an owner's hint unless it is right after all.
func (n *Numbers) unhint(ctx context.Context, email, uri string) error {
	if r, err := n.table.Get(ctx, uri); err == nil && r.GetOwner() == email {
		return nil
	}
	return n.owned.Remove(ctx, ownedKey(email, uri))
}

// claimSpecific takes a certain URI: a new one, a free one of the pool, or one outside of every block that somebody else
// has (moved is then true: the line exists). Errors: ErrTaken.
func (n *Numbers) claimSpecific(ctx context.Context, email, uri string, pstn bool) (r *rows.Number, moved bool, err error) {
	for {
		r, err = n.claim(ctx, email, uri)
		switch {
		case err == nil:
			return r, false, n.free.Remove(ctx, freeKey(r.GetPstn(), uri))
		case errors.Is(err, ErrTaken):
			r, err = n.move(ctx, email, uri)
			return r, true, err
		case !errors.Is(err, rows.ErrNotFound):
			return nil, false, err
		}
		created := &rows.Number{Uri: uri, Pstn: pstn}
		n.mark(created, email, randomHex(8))
		if err := n.owned.Add(ctx, ownedKey(email, uri)); err != nil {
			return nil, false, err
		}
		if err := n.table.Create(ctx, uri, created); err == nil {
			return created, false, nil
		} else if !errors.Is(err, rows.ErrExists) {
			return nil, false, fmt.Errorf("claiming %s: %w", uri, err)
		}
	}
}

// move gives a line outside of every block to another account.
func (n *Numbers) move(ctx context.Context, email, uri string) (*rows.Number, error) {
	if err := n.owned.Add(ctx, ownedKey(email, uri)); err != nil {
		return nil, err
	}
	var before string
	r, err := n.table.Update(ctx, uri, func(r *rows.Number) error {
		if r.GetState() != rows.Number_ACTIVE || (r.GetBlock() != "" && r.GetOwner() != email) {
			return ErrTaken
		}
		before, r.Owner = r.GetOwner(), email
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, n.unhint(ctx, email, uri))
	}
	if before != email {
		err = errors.Join(n.owned.Remove(ctx, ownedKey(before, uri)), n.listed.Remove(ctx, ownedKey(before, uri)))
	}
	return r, err
}
