package rows

import (
	"context"
	"fmt"
)

// Hints is a table of keys without content: an index that readers check against the rows it points to.
type Hints struct {
	Store Store
	Name  string
}

// Add sets a hint; one that is there stays.
func (h Hints) Add(ctx context.Context, key string) error {
	if _, _, err := h.Store.Swap(ctx, h.Name, key, 0, []byte{1}); err != nil {
		return fmt.Errorf("setting hint: %w", err)
	}
	return nil
}

// Remove deletes a hint if it is there.
func (h Hints) Remove(ctx context.Context, key string) error {
	found, err := h.Store.Get(ctx, h.Name, key)
	if err != nil {
		return fmt.Errorf("reading hint: %w", err)
	}
	if found[0].GetVersion() == 0 {
		return nil
	}
	if _, err := h.Store.Delete(ctx, h.Name, key, found[0].GetVersion()); err != nil {
		return fmt.Errorf("removing hint: %w", err)
	}
	return nil
}

// After returns up to limit hints with a prefix that come after a key.
func (h Hints) After(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	found, _, err := h.Store.Scan(ctx, h.Name, prefix, after, limit)
	if err != nil {
		return nil, fmt.Errorf("reading hints: %w", err)
	}
	keys := make([]string, len(found))
	for i, row := range found {
		keys[i] = row.GetKey()
	}
	return keys, nil
}

// All returns every hint with a prefix.
func (h Hints) All(ctx context.Context, prefix string) ([]string, error) {
	var all []string
	for after := ""; ; after = all[len(all)-1] {
		keys, err := h.After(ctx, prefix, after, 1000)
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
		if len(keys) < 1000 {
			return all, nil
		}
	}
}
