// Package xdms is the client of the document store (XCAP, port 7888): the simservs document of a public identity,
// whole documents only.
package xdms

import (
	"context"
	"fmt"
	"net/http"

	"github.com/clearwater-ims/clearwater/nodes/api/rest"
)

// DefaultSimservs is the document that a new line gets (TS 24.623): identities are shown, nothing is diverted or barred.
const DefaultSimservs = `<?xml version="1.0" encoding="UTF-8"?>
<simservs xmlns="http://uri.etsi.org/ngn/params/xml/simservs/xcap" xmlns:cp="urn:ietf:params:xml:ns:common-policy">
  <originating-identity-presentation active="true"/>
  <originating-identity-presentation-restriction active="true">
    <default-behaviour>presentation-not-restricted</default-behaviour>
  </originating-identity-presentation-restriction>
  <communication-diversion active="true">
    <NoReplyTimer>30</NoReplyTimer>
    <cp:ruleset/>
  </communication-diversion>
  <incoming-communication-barring active="true">
    <cp:ruleset><cp:rule id="rule0"><cp:conditions/><cp:actions><allow>true</allow></cp:actions></cp:rule></cp:ruleset>
  </incoming-communication-barring>
  <outgoing-communication-barring active="true">
    <cp:ruleset><cp:rule id="rule1"><cp:conditions/><cp:actions><allow>true</allow></cp:actions></cp:rule></cp:ruleset>
  </outgoing-communication-barring>
</simservs>
`

// Client reads and writes documents.
type Client struct{ rest *rest.Client }

// New returns a client for a base URL such as http://xdms.example.com:7888. See rest.New for httpClient.
func New(base string, httpClient *http.Client) *Client {
	return &Client{rest: rest.New(base, httpClient)}
}

// Simservs returns the document of a public identity; 404 (rest.IsNotFound) if it has none.
func (c *Client) Simservs(ctx context.Context, publicID string) (string, error) {
	answer, err := c.do(ctx, http.MethodGet, publicID, "")
	if err != nil {
		return "", fmt.Errorf("reading simservs of %s: %w", publicID, err)
	}
	return string(answer.Body), nil
}

// PutSimservs replaces it. 400 means that the document is not valid; the error holds the server's reason.
func (c *Client) PutSimservs(ctx context.Context, publicID, document string) error {
	if _, err := c.do(ctx, http.MethodPut, publicID, document); err != nil {
		return fmt.Errorf("writing simservs of %s: %w", publicID, err)
	}
	return nil
}

// DeleteSimservs removes it; one that does not exist counts as removed.
func (c *Client) DeleteSimservs(ctx context.Context, publicID string) error {
	if _, err := c.do(ctx, http.MethodDelete, publicID, ""); err != nil && !rest.IsNotFound(err) {
		return fmt.Errorf("deleting simservs of %s: %w", publicID, err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, publicID, document string) (*rest.Answer, error) {
	r := rest.Request{
		Method: method,
		Path:   "/org.etsi.ngn.simservs/users/" + rest.Escape(publicID) + "/simservs.xml",
		Header: http.Header{"X-Xcap-Asserted-Identity": {publicID}},
	}
	if document != "" {
		r.Body, r.ContentType = []byte(document), "application/vnd.etsi.simservs+xml"
	}
	return c.rest.Do(ctx, r)
}
