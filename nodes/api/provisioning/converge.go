package provisioning

import (
	"context"
	"fmt"
	"slices"

	"github.com/clearwater-ims/clearwater/nodes/api/rest"
)

// converge brings the server to what s says. The order is such that a public identity appears last, when
// credentials and services are in place. With create false the first public identity must exist.
func (c *Client) converge(ctx context.Context, s Subscriber, create bool, undo *rollback) error {
	profile, exists, err := c.existing(ctx, s)
	if err != nil {
		return err
	}
	if !exists && !create {
		_, err := c.PublicProfile(ctx, s.PublicIDs[0]) // for its 404
		return err
	}
	if err := c.putCredentials(ctx, s, undo); err != nil {
		return err
	}
	if !exists {
		if profile, err = c.newProfile(ctx, s, undo); err != nil {
			return err
		}
	} else if err := c.PutRegistrationSetPrivateID(ctx, profile.RegistrationSet, s.PrivateID); err != nil {
		return fmt.Errorf("linking private identity %s: %w", s.PrivateID, err)
	}
	if s.FilterCriteria != "" {
		if err := c.PutFilterCriteria(ctx, profile, s.FilterCriteria); err != nil {
			return err
		}
	}
	return c.putPublicIDs(ctx, profile, s.PublicIDs, undo)
}

// existing finds the profile that holds the subscriber's public identities.
func (c *Client) existing(ctx context.Context, s Subscriber) (p Profile, exists bool, err error) {
	for _, uri := range s.PublicIDs {
		found, err := c.PublicProfile(ctx, uri)
		if rest.IsNotFound(err) {
			continue
		}
		if err != nil {
			return p, false, err
		}
		if exists && found != p {
			return p, false, fmt.Errorf("%w: %s is in another profile than %s", ErrConflict, uri, s.PublicIDs[0])
		}
		p, exists = found, true
	}
	if !exists {
		return p, false, nil
	}
	owners, err := c.RegistrationSetPrivateIDs(ctx, p.RegistrationSet)
	if err != nil {
		return p, false, fmt.Errorf("reading private identities of set %s: %w", p.RegistrationSet, err)
	}
	if len(owners) > 0 && !slices.Contains(owners, s.PrivateID) {
		return p, false, fmt.Errorf("%w: %s belongs to %v", ErrConflict, s.PublicIDs[0], owners)
	}
	return p, true, nil
}

func (c *Client) putCredentials(ctx context.Context, s Subscriber, undo *rollback) error {
	wanted, given := s.credentials()
	if !given {
		return nil
	}
	before, err := c.Private(ctx, s.PrivateID)
	switch {
	case rest.IsNotFound(err):
		undo.add(func(ctx context.Context) error { return c.DeletePrivate(ctx, s.PrivateID) })
	case err != nil:
		return err
	default:
		if before.PlaintextPassword != "" {
			before.DigestHA1 = "" // a PUT carries one of them
		}
		if before.PlaintextPassword == "" && before.DigestHA1 == "" {
			break // a card's credentials cannot be read, so not restored either
		}
		undo.add(func(ctx context.Context) error { return c.PutPrivate(ctx, s.PrivateID, *before) })
	}
	return c.PutPrivate(ctx, s.PrivateID, wanted)
}

// newProfile makes set and profile.
func (c *Client) newProfile(ctx context.Context, s Subscriber, undo *rollback) (p Profile, err error) {
	if p.RegistrationSet, err = c.abandoned(ctx, s); err != nil {
		return p, err
	}
	if p.RegistrationSet == "" {
		if p.RegistrationSet, err = c.CreateRegistrationSet(ctx); err != nil {
			return p, fmt.Errorf("creating registration set: %w", err)
		}
	}
	undo.add(func(ctx context.Context) error { return c.DeleteRegistrationSet(ctx, p.RegistrationSet) })
	if err := c.PutRegistrationSetPrivateID(ctx, p.RegistrationSet, s.PrivateID); err != nil {
		return p, fmt.Errorf("linking private identity %s: %w", s.PrivateID, err)
	}
	if p.ID, err = c.CreateServiceProfile(ctx, p.RegistrationSet); err != nil {
		return p, fmt.Errorf("creating service profile: %w", err)
	}
	return p, nil
}

// abandoned finds a set without public identities that an earlier attempt left behind, or "". A private identity that is
// shared (no credentials given) may be in the hands of another creation right now, so its sets are left alone.
func (c *Client) abandoned(ctx context.Context, s Subscriber) (irs string, err error) {
	if _, ours := s.credentials(); !ours {
		return "", nil
	}
	sets, err := c.PrivateRegistrationSets(ctx, s.PrivateID)
	if err != nil {
		return "", fmt.Errorf("reading sets of private identity %s: %w", s.PrivateID, err)
	}
	for _, set := range sets {
		publics, err := c.RegistrationSetPublicIDs(ctx, set)
		if err == nil && len(publics) == 0 {
			return set, nil
		}
	}
	return "", nil
}

func (c *Client) putPublicIDs(ctx context.Context, p Profile, wanted []string, undo *rollback) error {
	present, err := c.ProfilePublicIDs(ctx, p)
	if err != nil && !rest.IsNotFound(err) {
		return fmt.Errorf("reading public identities of profile %s: %w", p.ID, err)
	}
	for _, uri := range wanted {
		if slices.Contains(present, uri) {
			continue
		}
		if err := c.PutPublicID(ctx, p, uri, false); err != nil {
			return err
		}
		undo.add(func(ctx context.Context) error { return c.DeletePublicID(ctx, p, uri) })
	}
	for _, uri := range present {
		if slices.Contains(wanted, uri) {
			continue
		}
		if err := c.DeletePublicID(ctx, p, uri); err != nil {
			return err
		}
	}
	return nil
}
