// Package portal is the client of the portal's HTTP API: accounts, sessions, lines (numbers) and the number pool.
// It authenticates with the API key (ellis_api_key) or with the session of one account.
package portal

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/api/rest"
)

// Client talks to the portal.
type Client struct{ rest *rest.Client }

// New returns a client for a base URL such as https://portal.example.com. apiKey may be empty: then only sign-up and
// Login work. See rest.New for httpClient.
func New(base string, httpClient *http.Client, apiKey string) *Client {
	c := rest.New(base, httpClient)
	if apiKey != "" {
		c = c.With("NGV-API-Key", apiKey)
	}
	return &Client{rest: c}
}

// NewAccount is the body of a sign-up.
type NewAccount struct {
	Email      string `json:"email"`
	Password   string `json:"password"`
	FullName   string `json:"full_name"`
	SignupCode string `json:"signup_code,omitempty"`
	Expires    string `json:"expires,omitempty"` // days, as digits
}

// Account is what the portal tells of one.
type Account struct {
	Username string `json:"username"`
	FullName string `json:"full_name"`
}

// CreateAccount signs up. 409 means that the address is taken.
func (c *Client) CreateAccount(ctx context.Context, a NewAccount) (*Account, error) {
	var out Account
	if err := c.rest.JSON(ctx, http.MethodPost, "/accounts", a, &out); err != nil {
		return nil, fmt.Errorf("creating account %s: %w", a.Email, err)
	}
	return &out, nil
}

// DeleteAccount removes an account and all its lines. One that does not exist counts as removed.
func (c *Client) DeleteAccount(ctx context.Context, email string) error {
	if err := c.rest.JSON(ctx, http.MethodDelete, account(email), nil, nil); err != nil && !rest.IsNotFound(err) {
		return fmt.Errorf("deleting account %s: %w", email, err)
	}
	return nil
}

// Login opens a session and returns a client that uses it.
func (c *Client) Login(ctx context.Context, email, password string) (*Client, error) {
	form := url.Values{"email": {email}, "password": {password}}
	answer, err := c.rest.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: "/session", Body: []byte(form.Encode()), ContentType: "application/x-www-form-urlencoded",
	})
	if err != nil {
		return nil, fmt.Errorf("logging in as %s: %w", email, err)
	}
	cookies := (&http.Response{Header: answer.Header}).Cookies()
	if len(cookies) == 0 {
		return nil, fmt.Errorf("logging in as %s: the answer has no cookie", email)
	}
	return &Client{rest: c.rest.With("Cookie", cookies[0].Name+"="+cookies[0].Value)}, nil
}

// Number is one line. Password is set only in the answer that creates or resets it.
type Number struct {
	ID          string `json:"number_id"`
	Number      string `json:"number"`
	Formatted   string `json:"formatted_number"`
	SIPURI      string `json:"sip_uri"`
	SIPUsername string `json:"sip_username"`
	Domain      string `json:"domain,omitempty"`
	PSTN        bool   `json:"pstn"`
	Listed      bool   `json:"gab_listed,omitempty"`
	PrivateID   string `json:"private_id"`
	Password    string `json:"sip_password,omitempty"`
}

// Numbers lists the lines of an account.
func (c *Client) Numbers(ctx context.Context, email string) ([]Number, error) {
	var out struct {
		Numbers []Number `json:"numbers"`
	}
	if err := c.rest.JSON(ctx, http.MethodGet, account(email)+"/numbers", nil, &out); err != nil {
		return nil, fmt.Errorf("listing numbers of %s: %w", email, err)
	}
	return out.Numbers, nil
}

// NumberOptions choose what kind of line is made.
type NumberOptions struct {
	PSTN         bool
	PrivateID    string // an existing private identity to share
	NewPrivateID bool   // with AssignNumber: PrivateID is to be created
}

func (o NumberOptions) body() map[string]string {
	body := map[string]string{"pstn": strconv.FormatBool(o.PSTN)}
	if o.PrivateID != "" {
		body["private_id"] = o.PrivateID
	}
	if o.NewPrivateID {
		body["new_private_id"] = "true"
	}
	return body
}

// AllocateNumber takes a free number from the pool. 503 means that the pool is empty.
func (c *Client) AllocateNumber(ctx context.Context, email string, o NumberOptions) (*Number, error) {
	var out Number
	if err := c.rest.JSON(ctx, http.MethodPost, account(email)+"/numbers", o.body(), &out); err != nil {
		return nil, fmt.Errorf("allocating a number for %s: %w", email, err)
	}
	return &out, nil
}

// AssignNumber gives an account a certain public identity. It needs the API key.
func (c *Client) AssignNumber(ctx context.Context, email, uri string, o NumberOptions) (*Number, error) {
	var out Number
	if err := c.rest.JSON(ctx, http.MethodPost, number(email, uri), o.body(), &out); err != nil {
		return nil, fmt.Errorf("assigning %s to %s: %w", uri, email, err)
	}
	return &out, nil
}

// ReleaseNumber removes a line and gives its number back. One that does not exist counts as released.
func (c *Client) ReleaseNumber(ctx context.Context, email, uri string) error {
	if err := c.rest.JSON(ctx, http.MethodDelete, number(email, uri), nil, nil); err != nil && !rest.IsNotFound(err) {
		return fmt.Errorf("releasing %s of %s: %w", uri, email, err)
	}
	return nil
}

// ResetPassword gives a line a new random password and returns it.
func (c *Client) ResetPassword(ctx context.Context, email, uri string) (password string, err error) {
	var out Number
	if err := c.rest.JSON(ctx, http.MethodPost, number(email, uri)+"/password", nil, &out); err != nil {
		return "", fmt.Errorf("resetting password of %s: %w", uri, err)
	}
	return out.Password, nil
}

// Simservs returns a line's simservs document.
func (c *Client) Simservs(ctx context.Context, email, uri string) (string, error) {
	return c.document(ctx, http.MethodGet, number(email, uri)+"/simservs", "")
}

// PutSimservs replaces it.
func (c *Client) PutSimservs(ctx context.Context, email, uri, document string) error {
	_, err := c.document(ctx, http.MethodPut, number(email, uri)+"/simservs", document)
	return err
}

// FilterCriteria returns a line's <ServiceProfile> document.
func (c *Client) FilterCriteria(ctx context.Context, email, uri string) (string, error) {
	return c.document(ctx, http.MethodGet, number(email, uri)+"/ifcs", "")
}

// PutFilterCriteria replaces it.
func (c *Client) PutFilterCriteria(ctx context.Context, email, uri, document string) error {
	_, err := c.document(ctx, http.MethodPut, number(email, uri)+"/ifcs", document)
	return err
}

// SetListed puts a line into the address book or takes it out.
func (c *Client) SetListed(ctx context.Context, email, uri string, listed bool) error {
	path := number(email, uri) + "/listed/0"
	if listed {
		path = strings.TrimSuffix(path, "0") + "1"
	}
	return c.rest.JSON(ctx, http.MethodPut, path, nil, nil)
}

func (c *Client) document(ctx context.Context, method, path, document string) (string, error) {
	r := rest.Request{Method: method, Path: path}
	if document != "" {
		r.Body, r.ContentType = []byte(document), "application/xml"
	}
	answer, err := c.rest.Do(ctx, r)
	if err != nil {
		return "", err
	}
	return string(answer.Body), nil
}

func account(email string) string { return "/accounts/" + rest.Escape(email) }
func number(email, uri string) string {
	return account(email) + "/numbers/" + rest.Escape(uri)
}
