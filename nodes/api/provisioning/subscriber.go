package provisioning

import (
	"context"
	"crypto/md5" //nolint:gosec // RFC 2617 digest credentials are MD5 by definition
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/rest"
)

// ErrLeftovers means that a failed creation could not remove all that it had made. DeleteSubscriber does, once the service
// answers again.
var ErrLeftovers = errors.New("a part of the subscriber is left")

// ErrConflict means that a public identity belongs to other private identities than the one given.
var ErrConflict = errors.New("public identity belongs to another subscriber")

// Subscriber is one subscription: a private identity and a set of public identities that register together.
type Subscriber struct {
	PublicIDs      []string // the first is the default one
	PrivateID      string
	Realm          string // of the digest; empty means the domain of the first sip: identity
	Password       string // at most one of Password and DigestHA1; neither keeps what is there
	DigestHA1      string // lower-case hex of MD5(private id:realm:password)
	AKA            AKA    // of a card, instead of or beside a password; empty keeps what is there
	StorePlaintext bool   // keep Password itself on the server, not only its digest
	FilterCriteria string // <ServiceProfile> document; empty on creation means DefaultFilterCriteria
	// Filled by GetSubscriber.
	Profile    Profile
	PrivateIDs []string
	HasAKA     bool
}

// PrivateIDOf derives the private identity that create_user and the portal give to a public one.
func PrivateIDOf(publicID string) string {
	return strings.TrimPrefix(strings.TrimPrefix(publicID, "sips:"), "sip:")
}

// DomainOf returns the domain of a SIP URI, without port and parameters, or "".
func DomainOf(uri string) string {
	_, domain, _ := strings.Cut(uri, "@")
	if i := strings.IndexAny(domain, ":;?"); i >= 0 {
		domain = domain[:i]
	}
	return domain
}

// HA1 computes the digest credential of RFC 2617 section 3.2.2.2 as lower-case hex.
func HA1(impi, realm, password string) string {
	sum := md5.Sum([]byte(impi + ":" + realm + ":" + password)) //nolint:gosec // see import
	return hex.EncodeToString(sum[:])
}

// DefaultFilterCriteria is the <ServiceProfile> that a new line gets: INVITEs visit the MMTel server of the domain.
func DefaultFilterCriteria(domain string) string {
	var server strings.Builder
	_ = xml.EscapeText(&server, []byte("sip:mmtel."+domain))
	return `<?xml version="1.0" encoding="UTF-8"?>
<ServiceProfile><InitialFilterCriteria><TriggerPoint><ConditionTypeCNF>0</ConditionTypeCNF>` +
		`<SPT><ConditionNegated>0</ConditionNegated><Group>0</Group><Method>INVITE</Method><Extension></Extension></SPT></TriggerPoint>` +
		`<ApplicationServer><ServerName>` + server.String() + `</ServerName><DefaultHandling>0</DefaultHandling></ApplicationServer>` +
		`</InitialFilterCriteria></ServiceProfile>`
}

// CreateSubscriber makes a subscriber, or completes one that an interrupted attempt left half made: calling it
// again with the same values changes nothing. ErrConflict means that a public identity is somebody else's. If it
// fails, what this call made is removed again.
func (c *Client) CreateSubscriber(ctx context.Context, s Subscriber) error {
	if err := s.check(); err != nil {
		return err
	}
	if _, given := s.credentials(); !given {
		if _, err := c.Private(ctx, s.PrivateID); err != nil {
			return fmt.Errorf("creating subscriber without credentials: %w", err)
		}
	}
	if s.FilterCriteria == "" {
		s.FilterCriteria = DefaultFilterCriteria(s.domain())
	}
	var undo rollback
	err := c.converge(ctx, s, true, &undo)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("creating subscriber %s: %w", s.PublicIDs[0], err)
	return errors.Join(err, undo.run(ctx))
}

// UpdateSubscriber changes an existing subscriber: the credentials if given, the filter criteria if given, and the
// public identities of its profile to exactly those given. Its first public identity must exist (404 otherwise).
// It may be repeated until it succeeds; a failed update is not rolled back.
func (c *Client) UpdateSubscriber(ctx context.Context, s Subscriber) error {
	if err := s.check(); err != nil {
		return err
	}
	if err := c.converge(ctx, s, false, nil); err != nil {
		return fmt.Errorf("updating subscriber %s: %w", s.PublicIDs[0], err)
	}
	return nil
}

// GetSubscriber reads a subscriber by one of its public identities; the error is a 404 (rest.IsNotFound) if there is none.
// Realm and DigestHA1 (and Password if the server keeps it) are those of the first private identity.
func (c *Client) GetSubscriber(ctx context.Context, publicID string) (*Subscriber, error) {
	p, err := c.PublicProfile(ctx, publicID)
	if err != nil {
		return nil, err
	}
	s := &Subscriber{Profile: p}
	if s.PublicIDs, err = c.ProfilePublicIDs(ctx, p); err != nil {
		return nil, fmt.Errorf("reading public identities of %s: %w", publicID, err)
	}
	if s.PrivateIDs, err = c.RegistrationSetPrivateIDs(ctx, p.RegistrationSet); err != nil {
		return nil, fmt.Errorf("reading private identities of %s: %w", publicID, err)
	}
	if s.FilterCriteria, err = c.FilterCriteria(ctx, p); err != nil && !rest.IsNotFound(err) {
		return nil, err
	}
	if len(s.PrivateIDs) == 0 {
		return s, nil
	}
	s.PrivateID = s.PrivateIDs[0]
	credentials, err := c.Private(ctx, s.PrivateID)
	if err != nil {
		return nil, err
	}
	s.Realm, s.DigestHA1, s.Password = credentials.Realm, credentials.DigestHA1, credentials.PlaintextPassword
	s.StorePlaintext, s.HasAKA = credentials.PlaintextPassword != "", credentials.HasAKA
	return s, nil
}

// DeleteSubscriber removes the registration set of a public identity with everything in it, and each private
// identity that no other set uses; privateID (may be empty) is one to remove even if the set is gone already.
// What does not exist counts as removed.
func (c *Client) DeleteSubscriber(ctx context.Context, publicID, privateID string) error {
	var privates []string
	if privateID != "" {
		privates = append(privates, privateID)
	}
	irs, err := c.PublicRegistrationSet(ctx, publicID)
	switch {
	case rest.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("deleting subscriber: %w", err)
	default:
		linked, err := c.RegistrationSetPrivateIDs(ctx, irs)
		if err != nil && !rest.IsNotFound(err) {
			return fmt.Errorf("deleting subscriber %s: reading private identities: %w", publicID, err)
		}
		privates = append(privates, linked...)
		if err := c.DeleteRegistrationSet(ctx, irs); err != nil {
			return fmt.Errorf("deleting subscriber %s: %w", publicID, err)
		}
	}
	slices.Sort(privates)
	for _, impi := range slices.Compact(privates) {
		if err := c.deleteUnused(ctx, impi, irs); err != nil {
			return fmt.Errorf("deleting subscriber %s: %w", publicID, err)
		}
	}
	return nil
}

// deleteUnused removes a private identity unless a set other than irs holds it. Sets left empty by a broken
// creation go with it.
func (c *Client) deleteUnused(ctx context.Context, impi, irs string) error {
	sets, err := c.PrivateRegistrationSets(ctx, impi)
	if rest.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading sets of private identity %s: %w", impi, err)
	}
	for _, set := range sets {
		if set == irs {
			continue
		}
		publics, err := c.RegistrationSetPublicIDs(ctx, set)
		if err != nil && !rest.IsNotFound(err) {
			return fmt.Errorf("reading public identities of set %s: %w", set, err)
		}
		if len(publics) > 0 {
			return nil
		}
		if err := c.DeleteRegistrationSet(ctx, set); err != nil {
			return err
		}
	}
	return c.DeletePrivate(ctx, impi)
}

func (s *Subscriber) check() error {
	if len(s.PublicIDs) == 0 || s.PrivateID == "" {
		return errors.New("a subscriber needs a private identity and at least one public identity")
	}
	if s.Password != "" && s.DigestHA1 != "" {
		return errors.New("a subscriber has a password or a digest, not both")
	}
	for _, uri := range s.PublicIDs {
		if !strings.HasPrefix(uri, "sip:") && !strings.HasPrefix(uri, "tel:") {
			return fmt.Errorf("public identity %q is not a sip: or tel: URI", uri)
		}
	}
	if s.domain() == "" {
		return errors.New("a subscriber without a sip: identity needs a realm")
	}
	return nil
}

// domain is that of the first public identity that has one, else the realm.
func (s *Subscriber) domain() string {
	for _, uri := range s.PublicIDs {
		if d := DomainOf(uri); d != "" {
			return d
		}
	}
	return s.Realm
}

// credentials returns what a PUT of the private identity sends, or false if there is nothing to send.
func (s *Subscriber) credentials() (Private, bool) {
	realm := s.Realm
	if realm == "" {
		realm = s.domain()
	}
	p := Private{Realm: realm, AKA: s.AKA, DigestHA1: s.DigestHA1}
	switch {
	case s.Password != "" && s.StorePlaintext:
		p.PlaintextPassword = s.Password
	case s.Password != "":
		p.DigestHA1 = HA1(s.PrivateID, realm, s.Password)
	case s.DigestHA1 == "" && s.AKA == (AKA{}):
		return Private{}, false
	}
	return p, true
}

// rollback collects what would undo the steps done so far; the last one is undone first.
type rollback []func(context.Context) error

func (r *rollback) add(step func(context.Context) error) {
	if r != nil {
		*r = append(*r, step)
	}
}

// run undoes all steps, for at most 10 s and even if the caller's context is over.
func (r rollback) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var problems []error
	for _, step := range slices.Backward(r) {
		if err := step(ctx); err != nil {
			problems = append(problems, fmt.Errorf("%w: undoing: %w", ErrLeftovers, err))
		}
	}
	return errors.Join(problems...)
}
