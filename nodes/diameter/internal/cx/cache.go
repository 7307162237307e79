package cx

import (
	"context"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

const (
	table        = "cx"
	setRow       = "set/"
	publicRow    = "impu/"
	privateRow   = "impi/"
	swapAttempts = 16 // before a row that others keep changing is given up
)

// Rows is the part of the store's record service that is used.
type Rows interface {
	Get(ctx context.Context, table string, keys ...string) ([]*records.Row, error)
	Swap(ctx context.Context, table, key string, version uint64, value []byte) (now uint64, swapped bool, err error)
	Delete(ctx context.Context, table, key string, version uint64) (deleted bool, err error)
}

// cache keeps subscriptions in the store. A set's row is the truth; the rows that find it by an identity are hints,
// written before it, and believed only if it agrees.
type cache struct {
	rows Rows
	now  func() time.Time
}

func canonical(impu string) string {
	u, err := sip.ParseURI(impu)
	if err != nil {
		return impu
	}
	return u.Canonical()
}

func device(s *Subscription, impi string) *Device {
	for _, d := range s.GetDevices() {
		if d.GetImpi() == impi {
			return d
		}
	}
	return nil
}

// identity tells whether a text can be one and a key of a row.
func identity(s string) bool {
	return s != "" && len(s) <= records.MaxKey-16 && utf8.ValidString(s)
}

// find returns the subscription of a public identity, nil if none is known. The default identity of a set, the most
// frequent, takes one question to the store, others two.
func (c *cache) find(ctx context.Context, impu string) (*Subscription, error) {
	key := canonical(impu)
	if !identity(key) {
		return nil, nil //nolint:nilnil // such a one cannot be known
	}
	rows, err := c.rows.Get(ctx, table, setRow+key, publicRow+key)
	if err != nil {
		return nil, fmt.Errorf("reading what the HSS has told: %w", err)
	}
	if s, err := c.read(rows[0], key); s != nil || err != nil {
		return s, err
	}
	p := &Pointer{}
	if err := proto.Unmarshal(rows[1].GetValue(), p); err != nil {
		return nil, fmt.Errorf("decoding %s%s: %w", publicRow, key, err)
	}
	for _, set := range p.GetSets() {
		if set == key {
			continue
		}
		rows, err := c.rows.Get(ctx, table, setRow+set)
		if err != nil {
			return nil, fmt.Errorf("reading what the HSS has told: %w", err)
		}
		if s, err := c.read(rows[0], key); s != nil || err != nil {
			return s, err
		}
	}
	return nil, nil //nolint:nilnil // not known
}

// read decodes a set's row if it is there, alive, and holds an identity.
func (c *cache) read(row *records.Row, key string) (*Subscription, error) {
	if row.GetVersion() == 0 {
		return nil, nil //nolint:nilnil // not there
	}
	s := &Subscription{}
	if err := proto.Unmarshal(row.GetValue(), s); err != nil {
		return nil, fmt.Errorf("decoding %s: %w", row.GetKey(), err)
	}
	if s.GetExpiresAt() <= c.now().UnixMilli() || !slices.Contains(s.GetKeys(), key) {
		return nil, nil //nolint:nilnil // past
	}
	return s, nil
}

// sets lists the default identities of the sets of a private identity.
func (c *cache) sets(ctx context.Context, impi string) ([]string, error) {
	if !identity(impi) {
		return nil, nil
	}
	rows, err := c.rows.Get(ctx, table, privateRow+impi)
	if err != nil {
		return nil, fmt.Errorf("reading the sets of %s: %w", impi, err)
	}
	p := &Pointer{}
	if err := proto.Unmarshal(rows[0].GetValue(), p); err != nil {
		return nil, fmt.Errorf("decoding the sets of %s: %w", impi, err)
	}
	return p.GetSets(), nil
}

// put stores what the HSS has told in answer to an assignment; other private identities of the set stay registered.
func (c *cache) put(ctx context.Context, next *Subscription, impi string, life time.Duration) error {
	main := next.GetKeys()[0]
	for _, key := range next.GetKeys()[1:] {
		if err := c.point(ctx, publicRow+key, main); err != nil {
			return err
		}
	}
	if impi != "" {
		if err := c.point(ctx, privateRow+impi, main); err != nil {
			return err
		}
	}
	now := c.now()
	next.ExpiresAt = now.Add(life).UnixMilli()
	return c.change(ctx, setRow+main, func(old *Subscription) *Subscription {
		if old.GetRegistered() && next.GetRegistered() && old.GetExpiresAt() > now.UnixMilli() {
			next.Devices = slices.DeleteFunc(slices.Clone(old.GetDevices()), func(d *Device) bool { return d.GetImpi() == impi })
		}
		if impi != "" && next.GetRegistered() {
			next.Devices = append(next.Devices, &Device{Impi: impi, AssignedAt: now.UnixMilli()})
		}
		return next
	})
}

// update replaces profile and charging functions of a set that is known.
func (c *cache) update(ctx context.Context, main string, with func(*Subscription)) error {
	return c.change(ctx, setRow+main, func(old *Subscription) *Subscription {
		if old == nil {
			return nil
		}
		with(old)
		return old
	})
}

// drop forgets a private identity of a set, "" all; with the last one the set goes.
func (c *cache) drop(ctx context.Context, s *Subscription, impi string) error {
	main := s.GetKeys()[0]
	gone := false
	err := c.change(ctx, setRow+main, func(old *Subscription) *Subscription {
		gone = true
		if old == nil {
			return nil
		}
		old.Devices = slices.DeleteFunc(old.GetDevices(), func(d *Device) bool { return impi == "" || d.GetImpi() == impi })
		if len(old.GetDevices()) > 0 {
			gone = false
			return old
		}
		return nil
	})
	if err != nil {
		return err
	}
	if gone {
		for _, key := range s.GetKeys()[1:] {
			if err := c.unpoint(ctx, publicRow+key, main); err != nil {
				return err
			}
		}
	}
	for _, d := range s.GetDevices() {
		if impi == "" || d.GetImpi() == impi {
			if err := c.unpoint(ctx, privateRow+d.GetImpi(), main); err != nil {
				return err
			}
		}
	}
	return nil
}

// change is the read-modify-write of a set: decide sees it, nil if there is none, and returns what is to be there. It is
// called again when somebody else was faster.
func (c *cache) change(ctx context.Context, key string, decide func(old *Subscription) *Subscription) error {
	return c.swap(ctx, key, func(value []byte) ([]byte, error) {
		var old *Subscription
		if value != nil {
			old = &Subscription{}
			if err := proto.Unmarshal(value, old); err != nil {
				return nil, fmt.Errorf("decoding %s: %w", key, err)
			}
		}
		next := decide(old)
		if next == nil {
			return nil, nil
		}
		return proto.Marshal(next)
	})
}

func (c *cache) point(ctx context.Context, key, set string) error {
	return c.pointer(ctx, key, func(p *Pointer) {
		if !slices.Contains(p.GetSets(), set) {
			p.Sets = append(p.Sets, set)
		}
	})
}

func (c *cache) unpoint(ctx context.Context, key, set string) error {
	return c.pointer(ctx, key, func(p *Pointer) {
		p.Sets = slices.DeleteFunc(p.GetSets(), func(s string) bool { return s == set })
	})
}

func (c *cache) pointer(ctx context.Context, key string, with func(*Pointer)) error {
	return c.swap(ctx, key, func(value []byte) ([]byte, error) {
		p := &Pointer{}
		if err := proto.Unmarshal(value, p); err != nil {
			return nil, fmt.Errorf("decoding %s: %w", key, err)
		}
		if with(p); len(p.GetSets()) == 0 {
			return nil, nil
		}
		return proto.Marshal(p)
	})
}

// swap replaces a row by what decide makes of it; no value is no row. A row that stays as it is is not written.
func (c *cache) swap(ctx context.Context, key string, decide func(value []byte) ([]byte, error)) error {
	for range swapAttempts {
		rows, err := c.rows.Get(ctx, table, key)
		if err != nil {
			return fmt.Errorf("reading %s: %w", key, err)
		}
		value, version := rows[0].GetValue(), rows[0].GetVersion()
		if version == 0 {
			value = nil
		}
		next, err := decide(value)
		if err != nil {
			return err
		}
		done := false
		switch {
		case next == nil && version == 0, next != nil && slices.Equal(next, value):
			return nil
		case next == nil:
			done, err = c.rows.Delete(ctx, table, key, version)
		default:
			_, done, err = c.rows.Swap(ctx, table, key, version, next)
		}
		if err != nil {
			return fmt.Errorf("writing %s: %w", key, err)
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("writing %s: the row keeps changing: %w", key, rpc.ErrUnavailable)
}
