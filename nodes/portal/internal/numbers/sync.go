package numbers

import (
	"context"
	"errors"
	"fmt"

	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/rows"
)

// Findings is what Sync found, and repaired if it was asked to.
type Findings struct {
	Lines   int      `json:"lines"`   // that accounts have
	Lost    []string `json:"lost"`    // lines without a subscriber: they leave their accounts
	Orphans []string `json:"orphans"` // free numbers with a subscriber: that goes
}

// Sync compares every number with the subscribers, as after a restore of backups of different times, and writes missing
// hints. With repair it makes the portal and the subscribers agree.
func (n *Numbers) Sync(ctx context.Context, repair bool) (Findings, error) {
	var f Findings
	err := n.table.Scan(ctx, "", func(uri string, r *rows.Number) error {
		ids, err := n.deps.Subscribers.PublicPrivateIDs(ctx, uri)
		if err != nil && !rest.IsNotFound(err) {
			return &BackendError{err}
		}
		known := len(ids) > 0
		switch r.GetState() {
		case rows.Number_ACTIVE:
			f.Lines++
			if !known {
				f.Lost = append(f.Lost, uri)
			}
		case rows.Number_FREE:
			if known {
				f.Orphans = append(f.Orphans, uri)
			}
		case rows.Number_PROVISIONING: // whoever is at it, or the next who meets it, ends it
			return nil
		}
		return n.hint(ctx, r)
	})
	if err != nil {
		return f, fmt.Errorf("comparing numbers with subscribers: %w", err)
	}
	if !repair {
		return f, nil
	}
	for _, uri := range f.Lost {
		if err := n.dropLost(ctx, uri); err != nil {
			return f, err
		}
	}
	for _, uri := range f.Orphans {
		if err := n.dropOrphan(ctx, uri); err != nil {
			return f, err
		}
	}
	return f, nil
}

// hint writes the hint that a number needs to be found.
func (n *Numbers) hint(ctx context.Context, r *rows.Number) error {
	switch r.GetState() {
	case rows.Number_ACTIVE:
		return n.owned.Add(ctx, ownedKey(r.GetOwner(), r.GetUri()))
	case rows.Number_FREE:
		return n.free.Add(ctx, freeKey(r.GetPstn(), r.GetUri()))
	case rows.Number_PROVISIONING:
	}
	return nil
}

// dropLost takes a line without a subscriber from its account, if it is that still.
func (n *Numbers) dropLost(ctx context.Context, uri string) error {
	r, err := n.table.Get(ctx, uri)
	if errors.Is(err, rows.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("dropping the lost line %s: %w", uri, err)
	}
	if err := n.deps.Documents.DeleteSimservs(ctx, uri); err != nil {
		return &BackendError{err}
	}
	return n.release(ctx, uri, func(now *rows.Number) bool {
		return now.GetState() == rows.Number_ACTIVE && now.GetNumberId() == r.GetNumberId()
	})
}

// dropOrphan removes the subscriber behind a free number. The number is claimed meanwhile, so that nobody gets it.
func (n *Numbers) dropOrphan(ctx context.Context, uri string) error {
	r, err := n.claim(ctx, "", uri)
	if errors.Is(err, ErrTaken) || errors.Is(err, rows.ErrNotFound) {
		return nil // somebody has it now, and its subscriber is right
	}
	if err != nil {
		return err
	}
	ids, err := n.deps.Subscribers.PublicPrivateIDs(ctx, uri)
	if err != nil && !rest.IsNotFound(err) {
		return errors.Join(&BackendError{err}, n.release(ctx, uri, sameClaim(r)))
	}
	impi := ""
	if len(ids) > 0 {
		impi = ids[0]
	}
	return n.discard(ctx, r, impi)
}
