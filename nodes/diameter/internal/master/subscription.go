package master

import (
	"context"
	"errors"
	"fmt"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
)

// Subscription is a set as other cores are told of it.
type Subscription struct {
	Primary string   // canonical form of the default public identity, "" if all are barred
	Private []string // private identities
	Profile string   // IMSSubscription
	CDF     string   // charging function, may be empty
}

// Why there is no Subscription.
var (
	ErrUnknown  = errors.New("the identity is not known")
	ErrMismatch = errors.New("the identities do not belong together")
)

// Subscription returns the set of a public identity, to which the private one, if it is not empty, must belong. Errors:
// ErrUnknown, ErrMismatch, or that of the store.
func (m *Master) Subscription(ctx context.Context, impi, impu string) (*Subscription, error) {
	key, err := subscribers.Key(impu)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	f, err := m.subscribers.Find(ctx, impi, key)
	switch {
	case err != nil:
		return nil, err //nolint:wrapcheck // it says what was read
	case impi != "" && f.Private == nil:
		return nil, fmt.Errorf("%w: %q", ErrUnknown, impi)
	case f.Set == nil:
		return nil, fmt.Errorf("%w: %q", ErrUnknown, impu)
	case impi != "" && !f.Paired(impi):
		return nil, fmt.Errorf("%w: %q and %q", ErrMismatch, impi, impu)
	}
	return m.Describe(f.Set), nil
}

// Describe is what other cores are told of a set.
func (m *Master) Describe(set *subscribers.Set) *Subscription {
	s := &Subscription{Private: set.GetPrivateIds(), Profile: m.data(set).GetImsSubscription(), CDF: m.settings().CDF}
	if id, ok := set.Default(); ok {
		s.Primary = id.GetKey()
	}
	return s
}
