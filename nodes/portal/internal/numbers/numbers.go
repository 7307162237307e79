// Package numbers is the portal's number pool and the lines made of it: blocks of numbers, taking a free one, making the
// subscriber behind it and giving it back. Several portal nodes may work on one store: who has a number is decided by
// a swap of its row, and whatever a node that died left half done is cleared by the next that meets it. It knows no HTTP
// and no accounts beyond their names.
package numbers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/rows"
)

var (
	// ErrNotFound means that the account has no such number, or that there is no such block.
	ErrNotFound = errors.New("no such number")
	// ErrEmpty means that the pool has no free number of the kind asked for.
	ErrEmpty = errors.New("no available numbers")
	// ErrTaken means that a number belongs to somebody else.
	ErrTaken = errors.New("number is in use")
	// ErrInvalid is wrapped by refusals of what the caller gave.
	ErrInvalid = errors.New("invalid")
)

// BackendError is a call to another role that failed.
type BackendError struct{ Err error }

func (e *BackendError) Error() string { return "upstream request failed: " + e.Err.Error() }
func (e *BackendError) Unwrap() error { return e.Err }

// Subscribers is the provisioning API as far as lines need it.
type Subscribers interface {
	CreateSubscriber(ctx context.Context, s provisioning.Subscriber) error
	DeleteSubscriber(ctx context.Context, publicID, privateID string) error
	PublicPrivateIDs(ctx context.Context, publicID string) ([]string, error)
}

// Documents is the document server as far as lines need it.
type Documents interface {
	PutSimservs(ctx context.Context, publicID, document string) error
	DeleteSimservs(ctx context.Context, publicID string) error
}

// Deps of Numbers.
type Deps struct {
	Store       rows.Store
	Subscribers Subscribers
	Documents   Documents
	Now         func() time.Time
	// Usable tells whether an account may have lines now; its error is returned as it is.
	Usable func(ctx context.Context, email string) error
}

// stale is the age at which a number that is still being provisioned was left by a node that died. It is over
// the longest time that provisioning may take.
const stale = time.Minute

// backendTimeout bounds the making and the removing of one line.
const backendTimeout = 30 * time.Second

// Numbers is the pool.
type Numbers struct {
	deps   Deps
	table  rows.Table[rows.Number, *rows.Number]
	blocks rows.Table[rows.Block, *rows.Block]
	free   rows.Hints // <kind>/<hash of the URI>/<URI>
	owned  rows.Hints // <account>/<URI>
	listed rows.Hints // <account>/<URI>
}

// New returns the pool in a store.
func New(deps Deps) *Numbers {
	return &Numbers{
		deps:   deps,
		table:  rows.Table[rows.Number, *rows.Number]{Store: deps.Store, Name: "number"},
		blocks: rows.Table[rows.Block, *rows.Block]{Store: deps.Store, Name: "number_block"},
		free:   rows.Hints{Store: deps.Store, Name: "number_free"},
		owned:  rows.Hints{Store: deps.Store, Name: "account_number"},
		listed: rows.Hints{Store: deps.Store, Name: "number_listed"},
	}
}

// freeKey orders free numbers by a hash, so that a scan from a random point finds a random number.
func freeKey(pstn bool, uri string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(uri))
	return fmt.Sprintf("%s%08x/%s", kind(pstn), h.Sum32(), uri)
}

func kind(pstn bool) string {
	if pstn {
		return "pstn/"
	}
	return "internal/"
}

func ownedKey(email, uri string) string { return email + "/" + uri }

func uriOf(hint string) string { return hint[strings.LastIndexByte(hint, '/')+1:] }

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// letters of passwords: mixed case without those that look alike. Twelve of them hold 66 bits.
const letters = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz"

// NewPassword returns a random password of a line.
func NewPassword() string {
	out := make([]byte, 0, 12)
	for len(out) < cap(out) {
		var b [1]byte
		_, _ = rand.Read(b[:])
		if n := int(b[0]) & 63; n < len(letters) { // no letter is likelier than another
			out = append(out, letters[n])
		}
	}
	return string(out)
}

// release makes a number free, or lets it leave the pool if no block holds it. match must still hold for the row.
func (n *Numbers) release(ctx context.Context, uri string, match func(*rows.Number) bool) error {
	var owner string
	after, err := n.table.Update(ctx, uri, func(r *rows.Number) error {
		if !match(r) {
			return ErrTaken
		}
		if owner = r.GetOwner(); r.GetBlock() == "" {
			return rows.Delete()
		}
		r.State, r.Owner, r.PrivateId, r.NumberId, r.Claim, r.ClaimedAt, r.Listed = rows.Number_FREE, "", "", "", "", 0, false
		return nil
	})
	if err != nil {
		if errors.Is(err, rows.ErrNotFound) || errors.Is(err, ErrTaken) {
			return nil // somebody else has released it
		}
		return fmt.Errorf("releasing %s: %w", uri, err)
	}
	if after != nil {
		err = n.free.Add(ctx, freeKey(after.GetPstn(), uri))
	}
	return errors.Join(err, n.owned.Remove(ctx, ownedKey(owner, uri)), n.listed.Remove(ctx, ownedKey(owner, uri)))
}
