// Package provisioning is the client of the subscriber provisioning API (port 8889 of a diameter node): one method
// per call of the API, and in subscriber.go the operations that tools and the portal want, made of several calls.
// It holds no state; a Client may be used by many goroutines.
package provisioning

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/api/rest"
)

// Client talks to the provisioning API.
type Client struct{ rest *rest.Client }

// New returns a client for a base URL such as http://hs.example.com:8889. See rest.New for httpClient.
func New(base string, httpClient *http.Client) *Client {
	return &Client{rest: rest.New(base, httpClient)}
}

// Private is the credentials of a private identity. On a PUT at most one of DigestHA1 and PlaintextPassword is set, and one
// of them or AKA's; what is of the kind that is not given stays. An empty Realm means the home domain.
type Private struct {
	DigestHA1         string `json:"digest_ha1,omitempty"`
	PlaintextPassword string `json:"plaintext_password,omitempty"`
	Realm             string `json:"realm,omitempty"`
	HasAKA            bool   `json:"aka,omitempty"` // of a GET, which does not show AKA's credentials
	AKA
}

// AKA is what a card (USIM, ISIM) and the authentication centre share (TS 33.102, TS 35.206), in hexadecimal: the key K,
// either the operator's OP or the OPc that is made of it and K, and the AMF ("" means 8000).
type AKA struct {
	K   string `json:"aka_k,omitempty"`
	OP  string `json:"aka_op,omitempty"`
	OPc string `json:"aka_opc,omitempty"`
	AMF string `json:"aka_amf,omitempty"`
}

// Private returns the credentials of a private identity.
func (c *Client) Private(ctx context.Context, impi string) (*Private, error) {
	var p Private
	if err := c.rest.JSON(ctx, http.MethodGet, privatePath(impi), nil, &p); err != nil {
		return nil, fmt.Errorf("reading private identity %s: %w", impi, err)
	}
	return &p, nil
}

// PutPrivate creates a private identity or replaces its credentials.
func (c *Client) PutPrivate(ctx context.Context, impi string, p Private) error {
	return wrap("writing private identity "+impi, c.rest.JSON(ctx, http.MethodPut, privatePath(impi), p, nil))
}

// DeletePrivate removes a private identity and unlinks it from its registration sets.
func (c *Client) DeletePrivate(ctx context.Context, impi string) error {
	return wrap("deleting private identity "+impi, c.remove(ctx, privatePath(impi)))
}

// PrivateRegistrationSets lists the implicit registration sets of a private identity.
func (c *Client) PrivateRegistrationSets(ctx context.Context, impi string) ([]string, error) {
	return c.list(ctx, privatePath(impi)+"/associated_implicit_registration_sets", "associated_implicit_registration_sets")
}

// PutPrivateRegistrationSet links a private identity to a registration set.
func (c *Client) PutPrivateRegistrationSet(ctx context.Context, impi, irs string) error {
	return c.put(ctx, privatePath(impi)+"/associated_implicit_registration_sets/"+rest.Escape(irs), nil, "")
}

// DeletePrivateRegistrationSet undoes PutPrivateRegistrationSet.
func (c *Client) DeletePrivateRegistrationSet(ctx context.Context, impi, irs string) error {
	return c.remove(ctx, privatePath(impi)+"/associated_implicit_registration_sets/"+rest.Escape(irs))
}

// PrivatePublicIDs lists the public identities that a private identity may register.
func (c *Client) PrivatePublicIDs(ctx context.Context, impi string) ([]string, error) {
	return c.list(ctx, privatePath(impi)+"/associated_public_ids", "associated_public_ids")
}

// CreateRegistrationSet makes an empty implicit registration set and returns its id.
func (c *Client) CreateRegistrationSet(ctx context.Context) (irs string, err error) {
	return c.create(ctx, "/irs")
}

// DeleteRegistrationSet removes a set with its profiles and public identities.
func (c *Client) DeleteRegistrationSet(ctx context.Context, irs string) error {
	return wrap("deleting registration set "+irs, c.remove(ctx, irsPath(irs)))
}

// RegistrationSetPublicIDs lists the public identities of a set.
func (c *Client) RegistrationSetPublicIDs(ctx context.Context, irs string) ([]string, error) {
	return c.list(ctx, irsPath(irs)+"/public_ids", "public_ids")
}

// RegistrationSetPrivateIDs lists the private identities of a set.
func (c *Client) RegistrationSetPrivateIDs(ctx context.Context, irs string) ([]string, error) {
	return c.list(ctx, irsPath(irs)+"/private_ids", "private_ids")
}

// PutRegistrationSetPrivateID links a private identity to a set.
func (c *Client) PutRegistrationSetPrivateID(ctx context.Context, irs, impi string) error {
	return c.put(ctx, irsPath(irs)+"/private_ids/"+rest.Escape(impi), nil, "")
}

// DeleteRegistrationSetPrivateID undoes PutRegistrationSetPrivateID.
func (c *Client) DeleteRegistrationSetPrivateID(ctx context.Context, irs, impi string) error {
	return c.remove(ctx, irsPath(irs)+"/private_ids/"+rest.Escape(impi))
}

// CreateServiceProfile makes an empty service profile in a set and returns its id.
func (c *Client) CreateServiceProfile(ctx context.Context, irs string) (profile string, err error) {
	return c.create(ctx, irsPath(irs)+"/service_profiles")
}

// DeleteServiceProfile removes a profile with its public identities.
func (c *Client) DeleteServiceProfile(ctx context.Context, p Profile) error {
	return wrap("deleting service profile "+p.ID, c.remove(ctx, p.path()))
}

// Profile names a service profile inside its registration set.
type Profile struct{ RegistrationSet, ID string }

func (p Profile) path() string {
	return irsPath(p.RegistrationSet) + "/service_profiles/" + rest.Escape(p.ID)
}

// ProfilePublicIDs lists the public identities of a profile.
func (c *Client) ProfilePublicIDs(ctx context.Context, p Profile) ([]string, error) {
	return c.list(ctx, p.path()+"/public_ids", "public_ids")
}

// PutPublicID adds a public identity to a profile, or changes whether it is barred.
func (c *Client) PutPublicID(ctx context.Context, p Profile, uri string, barred bool) error {
	body := struct {
		XMLName  xml.Name `xml:"PublicIdentity"`
		Identity string
		Barring  int `xml:"BarringIndication,omitempty"`
	}{Identity: uri}
	if barred {
		body.Barring = 1
	}
	text, err := xml.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding public identity %s: %w", uri, err)
	}
	return wrap("adding public identity "+uri, c.put(ctx, p.path()+"/public_ids/"+rest.Escape(uri), text, "application/xml"))
}

// DeletePublicID removes a public identity from a profile.
func (c *Client) DeletePublicID(ctx context.Context, p Profile, uri string) error {
	return wrap("deleting public identity "+uri, c.remove(ctx, p.path()+"/public_ids/"+rest.Escape(uri)))
}

// FilterCriteria returns a profile's initial filter criteria as a <ServiceProfile> document.
func (c *Client) FilterCriteria(ctx context.Context, p Profile) (string, error) {
	answer, err := c.rest.Do(ctx, rest.Request{Method: http.MethodGet, Path: p.path() + "/filter_criteria"})
	if err != nil {
		return "", fmt.Errorf("reading filter criteria: %w", err)
	}
	return string(answer.Body), nil
}

// PutFilterCriteria replaces them.
func (c *Client) PutFilterCriteria(ctx context.Context, p Profile, document string) error {
	return wrap("writing filter criteria", c.put(ctx, p.path()+"/filter_criteria", []byte(document), "application/xml"))
}

// PublicProfile finds the service profile of a public identity.
func (c *Client) PublicProfile(ctx context.Context, uri string) (Profile, error) {
	parts, err := c.location(ctx, "/public/"+rest.Escape(uri)+"/service_profile", 4)
	if err != nil {
		return Profile{}, fmt.Errorf("finding public identity %s: %w", uri, err)
	}
	return Profile{RegistrationSet: parts[1], ID: parts[3]}, nil
}

// PublicRegistrationSet finds the registration set of a public identity.
func (c *Client) PublicRegistrationSet(ctx context.Context, uri string) (irs string, err error) {
	parts, err := c.location(ctx, "/public/"+rest.Escape(uri)+"/irs", 2)
	if err != nil {
		return "", fmt.Errorf("finding public identity %s: %w", uri, err)
	}
	return parts[1], nil
}

// PublicPrivateIDs lists the private identities that may register a public identity.
func (c *Client) PublicPrivateIDs(ctx context.Context, uri string) ([]string, error) {
	return c.list(ctx, "/public/"+rest.Escape(uri)+"/associated_private_ids", "private_ids")
}

// Ping asks whether the service answers.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.rest.Do(ctx, rest.Request{Method: http.MethodGet, Path: "/ping"})
	return err
}

func (c *Client) create(ctx context.Context, path string) (id string, err error) {
	answer, err := c.rest.Do(ctx, rest.Request{Method: http.MethodPost, Path: path, Expect: []int{http.StatusCreated}})
	if err != nil {
		return "", err
	}
	location := answer.Header.Get("Location")
	id = location[strings.LastIndexByte(location, '/')+1:]
	if id == "" {
		return "", fmt.Errorf("creating at %s: answer has no usable Location (%q)", path, location)
	}
	return id, nil
}

// location asks for a redirection and returns the segments of its path, which must be n.
func (c *Client) location(ctx context.Context, path string, n int) ([]string, error) {
	answer, err := c.rest.Do(ctx, rest.Request{Method: http.MethodGet, Path: path, Expect: []int{http.StatusSeeOther}})
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(answer.Header.Get("Location"))
	if err != nil {
		return nil, fmt.Errorf("redirection of %s: %w", path, err)
	}
	parts := strings.Split(strings.Trim(target.Path, "/"), "/")
	if len(parts) != n {
		return nil, fmt.Errorf("redirection of %s leads to %q", path, target)
	}
	return parts, nil
}

func (c *Client) list(ctx context.Context, path, field string) ([]string, error) {
	var body map[string][]string
	if err := c.rest.JSON(ctx, http.MethodGet, path, nil, &body); err != nil {
		return nil, err
	}
	return body[field], nil
}

func (c *Client) put(ctx context.Context, path string, body []byte, contentType string) error {
	_, err := c.rest.Do(ctx, rest.Request{Method: http.MethodPut, Path: path, Body: body, ContentType: contentType})
	return err
}

// remove deletes; what is already gone counts as deleted.
func (c *Client) remove(ctx context.Context, path string) error {
	_, err := c.rest.Do(ctx, rest.Request{Method: http.MethodDelete, Path: path})
	if rest.IsNotFound(err) {
		return nil
	}
	return err
}

func privatePath(impi string) string { return "/private/" + rest.Escape(impi) }
func irsPath(irs string) string      { return "/irs/" + rest.Escape(irs) }

func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
