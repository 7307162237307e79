package numbers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/nodes/api/xdms"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/rows"
)

// Line is a number in use. Password is known only when it was made just now.
type Line struct {
	*rows.Number

	PrivateIDs []string
	Password   string
}

// Options of a new line.
type Options struct {
	PSTN         bool
	PrivateID    string // of an existing subscriber, to share
	NewPrivateID bool   // PrivateID is to be created with the line
}

// Allocate gives an account a random free number and makes its subscriber. Errors: ErrEmpty, *BackendError.
func (n *Numbers) Allocate(ctx context.Context, email string, o Options) (*Line, error) {
	claimed, err := n.claimFree(ctx, email, o.PSTN)
	if err != nil {
		return nil, fmt.Errorf("allocating a number: %w", err)
	}
	return n.provision(ctx, claimed, o)
}

// Assign gives an account a certain public identity. Errors: ErrInvalid, ErrTaken, *BackendError.
func (n *Numbers) Assign(ctx context.Context, email, uri string, o Options) (*Line, error) {
	if err := checkURI(uri); err != nil {
		return nil, err
	}
	if o.NewPrivateID && o.PrivateID == "" {
		return nil, fmt.Errorf("%w: new_private_id needs private_id", ErrInvalid)
	}
	claimed, moved, err := n.claimSpecific(ctx, email, uri, o.PSTN)
	if err != nil {
		return nil, fmt.Errorf("assigning %s: %w", uri, err)
	}
	if moved {
		return n.complete(ctx, claimed)
	}
	return n.provision(ctx, claimed, o)
}

// provision makes the subscriber and the documents of a claimed number, or gives the number back.
func (n *Numbers) provision(ctx context.Context, r *rows.Number, o Options) (*Line, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), backendTimeout) // a caller that leaves must not leave a half-made line
	defer cancel()
	uri := r.GetUri()
	s := provisioning.Subscriber{PublicIDs: []string{uri}, PrivateID: o.PrivateID}
	if o.PrivateID == "" {
		s.PrivateID = provisioning.PrivateIDOf(uri)
	}
	if o.PrivateID == "" || o.NewPrivateID {
		s.Password = NewPassword()
	}
	if err := n.deps.Subscribers.CreateSubscriber(ctx, s); err != nil {
		// What was made has been removed again. If that failed too, the number stays as it is until it is stale.
		if !errors.Is(err, provisioning.ErrLeftovers) {
			cleanup, cancel := cleanupContext(ctx)
			defer cancel()
			err = errors.Join(err, n.release(cleanup, uri, sameClaim(r)))
		}
		return nil, &BackendError{err}
	}
	if err := n.deps.Documents.PutSimservs(ctx, uri, xdms.DefaultSimservs); err != nil {
		return nil, errors.Join(&BackendError{err}, n.discard(ctx, r, s.PrivateID))
	}
	if err := n.listed.Add(ctx, ownedKey(r.GetOwner(), uri)); err != nil {
		return nil, errors.Join(err, n.discard(ctx, r, s.PrivateID))
	}
	active, err := n.table.Update(ctx, uri, func(now *rows.Number) error {
		if now.GetClaim() != r.GetClaim() {
			return ErrTaken
		}
		now.State, now.PrivateId = rows.Number_ACTIVE, s.PrivateID
		return nil
	})
	if err == nil {
		err = n.deps.Usable(ctx, r.GetOwner()) // the account may have gone meanwhile
	}
	if errors.Is(err, ErrTaken) {
		return nil, err // it was taken for stale: what is behind the number is no longer this attempt's
	}
	if err != nil {
		return nil, errors.Join(err, n.discard(ctx, r, s.PrivateID))
	}
	return &Line{Number: active, PrivateIDs: []string{s.PrivateID}, Password: s.Password}, nil
}

// discard removes what is behind a number and then gives the number back.
func (n *Numbers) discard(ctx context.Context, r *rows.Number, impi string) error {
	ctx, cancel := cleanupContext(ctx)
	defer cancel()
	if err := n.removeBackends(ctx, r.GetUri(), impi); err != nil {
		return err
	}
	return n.release(ctx, r.GetUri(), sameClaim(r))
}

// cleanupContext outlives the attempt that is being undone.
func cleanupContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
}

func sameClaim(r *rows.Number) func(*rows.Number) bool {
	return func(now *rows.Number) bool { return now.GetClaim() == r.GetClaim() }
}

func (n *Numbers) removeBackends(ctx context.Context, uri, impi string) error {
	if err := n.deps.Documents.DeleteSimservs(ctx, uri); err != nil {
		return &BackendError{err}
	}
	if err := n.deps.Subscribers.DeleteSubscriber(ctx, uri, impi); err != nil {
		return &BackendError{err}
	}
	return nil
}

// Get reads a line of an account; ErrNotFound if it is not its.
func (n *Numbers) Get(ctx context.Context, email, uri string) (*Line, error) {
	if checkURI(uri) != nil {
		return nil, ErrNotFound
	}
	r, err := n.table.Get(ctx, uri)
	if errors.Is(err, rows.ErrNotFound) || (err == nil && (r.GetOwner() != email || r.GetState() != rows.Number_ACTIVE)) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", uri, err)
	}
	return &Line{Number: r}, nil
}

// Release removes a line. Errors: ErrNotFound, *BackendError. force goes on when a backend fails, so that an account can
// be deleted while one is away; the subscriber may then be left behind.
func (n *Numbers) Release(ctx context.Context, email, uri string, force bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), backendTimeout)
	defer cancel()
	line, err := n.Get(ctx, email, uri)
	if err != nil {
		return err
	}
	if err := n.removeBackends(ctx, uri, ""); err != nil && !force {
		return err
	}
	return n.release(ctx, uri, func(now *rows.Number) bool { return now.GetClaim() == line.GetClaim() && now.GetOwner() == email })
}

// List returns an account's lines, PSTN first, then by number. A line whose subscriber is gone is released and
// reported as *BackendError, as is a provisioning API that does not answer.
func (n *Numbers) List(ctx context.Context, email string) ([]*Line, error) {
	held, err := n.held(ctx, email)
	if err != nil {
		return nil, err
	}
	var lines []*Line
	var mu sync.Mutex
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for _, r := range held {
		if r.GetState() != rows.Number_ACTIVE {
			continue
		}
		group.Go(func() error {
			line, err := n.complete(groupCtx, r)
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, line)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(lines, func(a, b *Line) int {
		if a.GetPstn() != b.GetPstn() {
			if a.GetPstn() {
				return -1
			}
			return 1
		}
		return strings.Compare(a.GetUri(), b.GetUri())
	})
	return lines, nil
}

// complete asks for the private identities of a line.
func (n *Numbers) complete(ctx context.Context, r *rows.Number) (*Line, error) {
	privates, err := n.deps.Subscribers.PublicPrivateIDs(ctx, r.GetUri())
	if rest.IsNotFound(err) {
		err = errors.Join(err, n.release(context.WithoutCancel(ctx), r.GetUri(), sameClaim(r)))
	}
	if err != nil {
		return nil, &BackendError{err}
	}
	return &Line{Number: r, PrivateIDs: privates}, nil
}

// held reads the rows of an account and clears those that a dead node left half made.
func (n *Numbers) held(ctx context.Context, email string) ([]*rows.Number, error) {
	hints, err := n.owned.All(ctx, email+"/")
	if err != nil {
		return nil, err
	}
	uris := make([]string, len(hints))
	for i, hint := range hints {
		uris[i] = uriOf(hint)
	}
	all, err := n.table.GetAll(ctx, uris)
	if err != nil {
		return nil, fmt.Errorf("reading numbers of %s: %w", email, err)
	}
	var out []*rows.Number
	for _, r := range all {
		switch {
		case r == nil || r.GetOwner() != email:
		case n.isStale(r):
			if err := n.discard(ctx, r, ""); err != nil {
				return nil, err
			}
		default:
			out = append(out, r)
		}
	}
	return out, nil
}

func (n *Numbers) isStale(r *rows.Number) bool {
	return r.GetState() == rows.Number_PROVISIONING && n.deps.Now().Sub(time.Unix(r.GetClaimedAt(), 0)) > stale
}

// ReleaseAll removes every line of an account.
func (n *Numbers) ReleaseAll(ctx context.Context, email string) error {
	held, err := n.held(ctx, email)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(8)
	for _, r := range held {
		group.Go(func() error {
			if err := n.Release(ctx, email, r.GetUri(), true); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			return nil
		})
	}
	return group.Wait() //nolint:wrapcheck // it names the number
}

// checkURI accepts sip:user@domain without parameters.
func checkURI(uri string) error {
	user, domain, ok := strings.Cut(strings.TrimPrefix(uri, "sip:"), "@")
	if !ok || !strings.HasPrefix(uri, "sip:") || user == "" || domain == "" || len(uri) > 512 ||
		strings.ContainsAny(user, "/:;?#<>\"\\^`{}|@ ") || strings.Trim(strings.ToLower(domain), "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" ||
		strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%w: %q is not sip:user@domain", ErrInvalid, uri)
	}
	return nil
}
