// Package subscribers is the subscriber master's data: private identities with their credentials, implicit
// registration sets with service profiles and public identities. It keeps rows in the store and changes each with a
// compare-and-swap.
//
// A set is one row and the truth about what belongs together. Rows that find a set by an identity are hints: they
// are written before the set and deleted before it too, and are believed only if the set agrees. So every change may
// be repeated after a failure in the middle, and finishes what was left.
package subscribers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

const (
	table      = "subscribers"
	setRow     = "irs/"
	profileRow = "profile/"
	privateRow = "private/"
	publicRow  = "public/"

	swapAttempts = 32 // before a row that others keep changing is given up
)

// Errors that callers answer differently.
var (
	ErrNotFound = errors.New("not found")
	// ErrMismatch says that the objects exist and do not belong together.
	ErrMismatch = errors.New("does not belong there")
	// ErrInvalid says that an identity is not one.
	ErrInvalid = errors.New("invalid identity")
	errBusy    = fmt.Errorf("the row keeps changing: %w", rpc.ErrUnavailable)
)

// Rows is the part of the store's record service that is used.
type Rows interface {
	Get(ctx context.Context, table string, keys ...string) ([]*records.Row, error)
	Swap(ctx context.Context, table, key string, version uint64, value []byte) (now uint64, swapped bool, err error)
	Delete(ctx context.Context, table, key string, version uint64) (deleted bool, err error)
	Scan(ctx context.Context, table, prefix, after string, limit int) (rows []*records.Row, more bool, err error)
}

// DB reads and changes subscribers. It is safe for concurrent use, also from several nodes.
type DB struct {
	rows  Rows
	now   func() time.Time
	hints hints
}

// New works on rows.
func New(rows Rows) *DB { return &DB{rows: rows, now: time.Now} }

// Key is the canonical form under which a public identity is known: sip:, sips: and tel: URIs.
func Key(uri string) (string, error) {
	u, err := sip.ParseURI(uri)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if u.Scheme != "sip" && u.Scheme != "sips" && u.Scheme != "tel" {
		return "", fmt.Errorf("%w: %q is neither a SIP nor a tel URI", ErrInvalid, uri)
	}
	return u.Canonical(), nil
}

// newID returns a random UUID (RFC 9562 4).
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// message is a pointer to a row's type.
type message[T any] interface {
	*T
	proto.Message
}

// read returns rows decoded into the types of into, in order; those that are absent are left as they are. The
// versions say which are there.
func (db *DB) read(ctx context.Context, keys []string, into ...proto.Message) ([]uint64, error) {
	rows, err := db.rows.Get(ctx, table, keys...)
	if err != nil {
		return nil, fmt.Errorf("reading subscribers: %w", err)
	}
	versions := make([]uint64, len(rows))
	for i, row := range rows {
		if versions[i] = row.GetVersion(); versions[i] == 0 {
			continue
		}
		if err := proto.Unmarshal(row.GetValue(), into[i]); err != nil {
			return nil, fmt.Errorf("decoding the row %s: %w", keys[i], err)
		}
	}
	return versions, nil
}

// verdict is what change should do with the row.
type verdict int

const (
	keep   verdict = iota // nothing to change
	write                 // store it
	remove                // delete it
)

// change is the read-modify-write of one row: decide sees it as it is (there says whether it exists) and is called
// again when somebody else was faster. Its error ends the change.
func change[T any, P message[T]](ctx context.Context, db *DB, key string, decide func(row P, there bool) (verdict, error)) error {
	for range swapAttempts {
		row := P(new(T))
		versions, err := db.read(ctx, []string{key}, row)
		if err != nil {
			return err
		}
		what, err := decide(row, versions[0] != 0)
		if err != nil || what == keep {
			return err
		}
		done := false
		if what == remove {
			if versions[0] == 0 {
				return nil
			}
			done, err = db.rows.Delete(ctx, table, key, versions[0])
		} else {
			var value []byte
			if value, err = proto.Marshal(row); err != nil {
				return fmt.Errorf("encoding the row %s: %w", key, err)
			}
			_, done, err = db.rows.Swap(ctx, table, key, versions[0], value)
		}
		if err != nil {
			return fmt.Errorf("changing the row %s: %w", key, err)
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("changing the row %s: %w", key, errBusy)
}

// set reads a set; ErrNotFound.
func (db *DB) set(ctx context.Context, id string) (*Set, error) {
	s := &Set{}
	versions, err := db.read(ctx, []string{setRow + id}, s)
	if err != nil {
		return nil, err
	}
	if versions[0] == 0 {
		return nil, fmt.Errorf("implicit registration set %s: %w", id, ErrNotFound)
	}
	return s, nil
}

// changeSet changes a set that exists; ErrNotFound.
func (db *DB) changeSet(ctx context.Context, id string, decide func(*Set) (verdict, error)) error {
	return change(ctx, db, setRow+id, func(s *Set, there bool) (verdict, error) {
		if !there {
			return keep, fmt.Errorf("implicit registration set %s: %w", id, ErrNotFound)
		}
		return decide(s)
	})
}

// Profile returns the profile with an id, nil if the set has none.
func (s *Set) Profile(id string) *Profile {
	for _, p := range s.GetProfiles() {
		if p.GetId() == id {
			return p
		}
	}
	return nil
}

// Public returns a public identity and its profile, nil if the set has none.
func (s *Set) Public(key string) (*Public, *Profile) {
	for _, p := range s.GetProfiles() {
		if id := p.Public(key); id != nil {
			return id, p
		}
	}
	return nil, nil
}

// Public returns a public identity of the profile, nil if it has none.
func (p *Profile) Public(key string) *Public {
	for _, id := range p.GetPublicIds() {
		if id.GetKey() == key {
			return id
		}
	}
	return nil
}

// Has tells whether a private identity may register the set.
func (s *Set) Has(impi string) bool { return slices.Contains(s.GetPrivateIds(), impi) }

// Default is the identity under which the set's registration is kept: the first SIP identity that is not barred,
// else the first of any kind that is not (TS 23.228 4.3.3.4). False when all are barred.
func (s *Set) Default() (*Public, bool) {
	var other *Public
	for _, p := range s.GetProfiles() {
		for _, id := range p.GetPublicIds() {
			switch {
			case id.GetBarred():
			case len(id.GetKey()) > 4 && id.GetKey()[:4] != "tel:":
				return id, true
			case other == nil:
				other = id
			}
		}
	}
	return other, other != nil
}

// Publics returns the URIs of all public identities.
func (s *Set) Publics() []string {
	out := []string{}
	for _, p := range s.GetProfiles() {
		for _, id := range p.GetPublicIds() {
			out = append(out, id.GetUri())
		}
	}
	return out
}
