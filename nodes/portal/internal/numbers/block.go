package numbers

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/portal/internal/rows"
)

// MaxBlock is the largest block, in numbers.
const MaxBlock = 100_000

// Block is a run of numbers.
type Block struct {
	Start string // digits
	Count int
	PSTN  bool
	Realm string
}

// Counts tells what became of a block.
type Counts struct{ Created, Present, Free, InUse int }

var (
	startPattern = regexp.MustCompile(`^[0-9]{1,15}$`)
	realmPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
)

func (b Block) check() error {
	switch {
	case !startPattern.MatchString(b.Start):
		return fmt.Errorf("%w: start %q must be 1 to 15 digits", ErrInvalid, b.Start)
	case b.Count < 1 || b.Count > MaxBlock:
		return fmt.Errorf("%w: count %d must be from 1 to %d", ErrInvalid, b.Count, MaxBlock)
	case !realmPattern.MatchString(b.Realm):
		return fmt.Errorf("%w: realm %q must be a domain name", ErrInvalid, b.Realm)
	}
	if last := b.first() + uint64(b.Count) - 1; len(strconv.FormatUint(last, 10)) > len(b.Start) {
		return fmt.Errorf("%w: %d numbers from %s on need more digits than the first one has", ErrInvalid, b.Count, b.Start)
	}
	return nil
}

func (b Block) first() uint64 {
	first, _ := strconv.ParseUint(b.Start, 10, 64) // check has seen to it
	return first
}

// uris lists the identities from offset from on. Numbers that are reachable from outside are written +1...
func (b Block) uris(from, to int) []string {
	prefix := "sip:"
	if b.PSTN {
		prefix = "sip:+1"
	}
	out := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("%s%0*d@%s", prefix, len(b.Start), b.first()+uint64(i), b.Realm)) //nolint:gosec // not negative
	}
	return out
}

// PutBlock creates the numbers that are not there yet, and removes free numbers beyond the end of a block that shrank.
// Repeating it repairs what an interrupted one left. Errors: ErrInvalid, ErrTaken if the block exists with another kind or realm.
func (n *Numbers) PutBlock(ctx context.Context, b Block) (Counts, error) {
	if err := b.check(); err != nil {
		return Counts{}, err
	}
	before, err := n.putBlockRow(ctx, b, false)
	if err != nil {
		return Counts{}, err
	}
	var created, present atomic.Int64
	err = each(ctx, b.uris(0, b.Count), func(ctx context.Context, uris []string) error {
		c, p, err := n.create(ctx, b, uris)
		created.Add(int64(c))
		present.Add(int64(p))
		return err
	})
	if err == nil && before > b.Count {
		err = each(ctx, b.uris(b.Count, before), func(ctx context.Context, uris []string) error { return n.drop(ctx, b.Start, uris) })
		if err == nil {
			_, err = n.putBlockRow(ctx, b, true)
		}
	}
	if err != nil {
		return Counts{}, fmt.Errorf("creating numbers of block %s: %w", b.Start, err)
	}
	counts, err := n.count(ctx, b)
	counts.Created, counts.Present = int(created.Load()), int(present.Load())
	return counts, err
}

// putBlockRow writes the block's row and returns the count that it had. The count sinks only with shrink set, when the
// numbers beyond the new end are gone, so that a shrinking that was interrupted is finished by the next attempt.
func (n *Numbers) putBlockRow(ctx context.Context, b Block, shrink bool) (before int, err error) {
	row := &rows.Block{Start: b.Start, Count: uint32(b.Count), Pstn: b.PSTN, Realm: b.Realm} //nolint:gosec // checked
	if err = n.blocks.Create(ctx, b.Start, row); err == nil {
		return 0, nil
	}
	if !errors.Is(err, rows.ErrExists) {
		return 0, fmt.Errorf("creating block %s: %w", b.Start, err)
	}
	_, err = n.blocks.Update(ctx, b.Start, func(r *rows.Block) error {
		if r.GetPstn() != b.PSTN || r.GetRealm() != b.Realm {
			return fmt.Errorf("%w: block %s exists with pstn=%t and realm %s", ErrTaken, b.Start, r.GetPstn(), r.GetRealm())
		}
		before = int(r.GetCount())
		if shrink || before < b.Count {
			r.Count = uint32(b.Count) //nolint:gosec // checked
		}
		return nil
	})
	return before, err
}

// create makes the numbers that are absent and repairs the hints of those that are free.
func (n *Numbers) create(ctx context.Context, b Block, uris []string) (created, present int, err error) {
	there, err := n.table.GetAll(ctx, uris)
	if err != nil {
		return 0, 0, err
	}
	for i, r := range there {
		if r == nil {
			err := n.table.Create(ctx, uris[i], &rows.Number{Uri: uris[i], Pstn: b.PSTN, Block: b.Start})
			if err != nil && !errors.Is(err, rows.ErrExists) {
				return created, present, err
			}
			if err == nil {
				created++
			} else {
				present++
			}
		} else {
			present++
			if n.isStale(r) {
				if err := n.discard(ctx, r, ""); err != nil {
					return created, present, err
				}
				continue
			}
			if r.GetState() != rows.Number_FREE {
				continue
			}
		}
		if err := n.free.Add(ctx, freeKey(b.PSTN, uris[i])); err != nil {
			return created, present, err
		}
	}
	return created, present, nil
}

// drop takes free numbers of a block out of the pool; those in use leave it when they are released.
func (n *Numbers) drop(ctx context.Context, start string, uris []string) error {
	there, err := n.table.GetAll(ctx, uris)
	if err != nil {
		return err
	}
	for i, r := range there {
		if r == nil || r.GetBlock() != start {
			continue
		}
		_, err := n.table.Update(ctx, uris[i], func(now *rows.Number) error {
			if now.GetState() == rows.Number_FREE {
				return rows.Delete()
			}
			now.Block = ""
			return nil
		})
		if err != nil && !errors.Is(err, rows.ErrNotFound) {
			return err
		}
		if err := n.free.Remove(ctx, freeKey(r.GetPstn(), uris[i])); err != nil {
			return err
		}
	}
	return nil
}

// Block reads a block and counts its numbers; ErrNotFound if there is none.
func (n *Numbers) Block(ctx context.Context, start string) (Block, Counts, error) {
	if !startPattern.MatchString(start) {
		return Block{}, Counts{}, ErrNotFound
	}
	row, err := n.blocks.Get(ctx, start)
	if errors.Is(err, rows.ErrNotFound) {
		return Block{}, Counts{}, ErrNotFound
	}
	if err != nil {
		return Block{}, Counts{}, fmt.Errorf("reading block %s: %w", start, err)
	}
	b := blockOf(row)
	counts, err := n.count(ctx, b)
	return b, counts, err
}

// Blocks lists all blocks.
func (n *Numbers) Blocks(ctx context.Context) ([]Block, error) {
	out := []Block{}
	err := n.blocks.Scan(ctx, "", func(_ string, row *rows.Block) error {
		out = append(out, blockOf(row))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing blocks: %w", err)
	}
	return out, nil
}

// DeleteBlock takes a block's free numbers out of the pool. ErrNotFound if there is no such block.
func (n *Numbers) DeleteBlock(ctx context.Context, start string) error {
	b, _, err := n.Block(ctx, start)
	if err != nil {
		return err
	}
	err = each(ctx, b.uris(0, b.Count), func(ctx context.Context, uris []string) error { return n.drop(ctx, start, uris) })
	if err != nil {
		return fmt.Errorf("deleting numbers of block %s: %w", start, err)
	}
	_, err = n.blocks.Update(ctx, start, func(*rows.Block) error { return rows.Delete() })
	if err != nil && !errors.Is(err, rows.ErrNotFound) {
		return fmt.Errorf("deleting block %s: %w", start, err)
	}
	return nil
}

func (n *Numbers) count(ctx context.Context, b Block) (c Counts, err error) {
	there, err := n.table.GetAll(ctx, b.uris(0, b.Count))
	if err != nil {
		return c, fmt.Errorf("counting numbers of block %s: %w", b.Start, err)
	}
	for _, r := range there {
		switch {
		case r == nil:
		case r.GetState() == rows.Number_FREE:
			c.Free++
		default:
			c.InUse++
		}
	}
	return c, nil
}

func blockOf(r *rows.Block) Block {
	return Block{Start: r.GetStart(), Count: int(r.GetCount()), PSTN: r.GetPstn(), Realm: r.GetRealm()}
}

// each works on parts of a list, 16 at a time: the store coalesces their writes.
func each(ctx context.Context, uris []string, work func(context.Context, []string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for part := range slices.Chunk(uris, 50) {
		group.Go(func() error { return work(ctx, part) })
	}
	return group.Wait() //nolint:wrapcheck // the callers do
}
