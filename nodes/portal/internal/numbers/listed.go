package numbers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/portal/internal/rows"
)

// SetListed puts a line into the address book or takes it out. ErrNotFound if it is not the account's.
func (n *Numbers) SetListed(ctx context.Context, email, uri string, listed bool) error {
	if checkURI(uri) != nil {
		return ErrNotFound
	}
	if listed {
		if err := n.listed.Add(ctx, ownedKey(email, uri)); err != nil {
			return err
		}
	}
	_, err := n.table.Update(ctx, uri, func(r *rows.Number) error {
		if r.GetOwner() != email || r.GetState() != rows.Number_ACTIVE {
			return rows.ErrNotFound
		}
		r.Listed = listed
		return nil
	})
	if errors.Is(err, rows.ErrNotFound) {
		return errors.Join(ErrNotFound, n.listed.Remove(ctx, ownedKey(email, uri)))
	}
	if err == nil && !listed {
		err = n.listed.Remove(ctx, ownedKey(email, uri))
	}
	if err != nil {
		return fmt.Errorf("listing %s: %w", uri, err)
	}
	return nil
}

// Listed returns the address book: URIs by account.
func (n *Numbers) Listed(ctx context.Context) (map[string][]string, error) {
	hints, err := n.listed.All(ctx, "")
	if err != nil {
		return nil, err
	}
	uris := make([]string, len(hints))
	for i, hint := range hints {
		uris[i] = uriOf(hint)
	}
	all, err := n.table.GetAll(ctx, uris)
	if err != nil {
		return nil, fmt.Errorf("reading the address book: %w", err)
	}
	out := map[string][]string{}
	for i, r := range all {
		email, _, _ := strings.Cut(hints[i], "/")
		if r.GetListed() && r.GetOwner() == email && r.GetState() == rows.Number_ACTIVE {
			out[email] = append(out[email], r.GetUri())
		}
	}
	return out, nil
}
