package management

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/pki"
)

// maxBody bounds requests and answers, in bytes: a document has at most 1 MiB, and JSON may double it.
const maxBody = 4 << 20

// Client steers one node. Every answer of 400 and above is an *Error; what could not be asked at all is another.
type Client struct {
	base string
	http *http.Client
}

// NewClient talks to the node whose management API is at address (host:port), with mutual TLS: conf comes from
// pki.ClientTLS, which checks the peer's role. Calls are bounded by their context, and by 30 s.
func NewClient(address string, conf *tls.Config) *Client {
	return &Client{base: "https://" + address, http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: conf, TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: 30 * time.Second,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
	}}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status asks how the node is.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// Drain orders the node to take no new work. It returns at once; Status tells when the node is Drained.
// deadline zero means: as long as it takes.
func (c *Client) Drain(ctx context.Context, deadline time.Duration) error {
	seconds := int((deadline + time.Second - 1) / time.Second)
	_, err := call[struct{}](ctx, c, http.MethodPost, "/v1/drain", DrainRequest{DeadlineSeconds: seconds})
	return err
}

// Decommission orders a drain after which the node does not come back: a store node hands over what it has. It may be
// repeated; Status tells when the node is Drained.
func (c *Client) Decommission(ctx context.Context, deadline time.Duration) error {
	seconds := int((deadline + time.Second - 1) / time.Second)
	_, err := call[struct{}](ctx, c, http.MethodPost, "/v1/drain", DrainRequest{DeadlineSeconds: seconds, Decommission: true})
	return err
}

// Undrain lets the node take work again.
func (c *Client) Undrain(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/v1/drain", nil)
	return err
}

// PutToken lets the node called name join once with the token whose digest t holds.
func (c *Client) PutToken(ctx context.Context, name string, t Token) error {
	_, err := call[struct{}](ctx, c, http.MethodPut, "/v1/tokens/"+url.PathEscape(name), t)
	return err
}

// Config reads a document; one that does not exist has revision 0 and no text.
func (c *Client) Config(ctx context.Context, typ string) (*Document, error) {
	return call[Document](ctx, c, http.MethodGet, "/v1/config/"+url.PathEscape(typ), nil)
}

// PutConfig writes doc.Text if the document still has doc.Revision (0 = does not exist), and returns it with its
// new revision and warnings. StatusOf(err) is 409 when somebody else changed it and 422 when it does not validate.
func (c *Client) PutConfig(ctx context.Context, doc Document) (*Document, error) {
	return call[Document](ctx, c, http.MethodPut, "/v1/config/"+url.PathEscape(doc.Type), doc)
}

// ConfigHistory lists the changes of a document, the last first, without their texts.
func (c *Client) ConfigHistory(ctx context.Context, typ string) ([]Document, error) {
	out, err := call[[]Document](ctx, c, http.MethodGet, "/v1/config/"+url.PathEscape(typ)+"/history", nil)
	if err != nil {
		return nil, err
	}
	return *out, nil
}

// ConfigAt reads a document as it was at a revision; StatusOf(err) is 404 when that is not kept.
func (c *Client) ConfigAt(ctx context.Context, typ string, revision int64) (*Document, error) {
	return call[Document](ctx, c, http.MethodGet, fmt.Sprintf("/v1/config/%s/history/%d", url.PathEscape(typ), revision), nil)
}

// Restart tells a node to stop in order and start again.
func (c *Client) Restart(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/v1/restart", nil)
	return err
}

// Restarts asks a store node how far a rolling restart is; SteerRestarts resumes or clears it.
func (c *Client) Restarts(ctx context.Context) (*Restarts, error) {
	return call[Restarts](ctx, c, http.MethodGet, "/v1/restarts", nil)
}

// SteerRestarts resumes or clears a rolling restart.
func (c *Client) SteerRestarts(ctx context.Context, action string) (*Restarts, error) {
	return call[Restarts](ctx, c, http.MethodPost, "/v1/restarts", RestartsRequest{Action: action})
}

// Cluster asks a store node for members and nodes.
func (c *Client) Cluster(ctx context.Context) (*Cluster, error) {
	return call[Cluster](ctx, c, http.MethodGet, "/v1/cluster", nil)
}

// RemoveNode makes the cluster forget a node and revokes its join token. A node that is not known is no error.
func (c *Client) RemoveNode(ctx context.Context, name string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/v1/nodes/"+url.PathEscape(name), nil)
	if StatusOf(err) == http.StatusNotFound {
		return nil
	}
	return err
}

// Join asks a store node for this node's first certificate, against its one-time token.
func (c *Client) Join(ctx context.Context, req JoinRequest) (*JoinResponse, error) {
	return call[JoinResponse](ctx, c, http.MethodPost, "/v1/join", req)
}

// Renew asks a store node for a further certificate; the present one says for whom.
func (c *Client) Renew(ctx context.Context, req RenewRequest) (*JoinResponse, error) {
	return call[JoinResponse](ctx, c, http.MethodPost, "/v1/renew", req)
}

// Access asks a store node to give the caller, by its certificate, its rights in etcd.
func (c *Client) Access(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/v1/access", nil)
	return err
}

// Authority asks a store node for the site CA; only store nodes get it.
func (c *Client) Authority(ctx context.Context) (*AuthorityResponse, error) {
	return call[AuthorityResponse](ctx, c, http.MethodPost, "/v1/authority", nil)
}

// Recover makes a store node the only member of its site's etcd, where the majority is lost for good.
func (c *Client) Recover(ctx context.Context) (*RecoverResponse, error) {
	return call[RecoverResponse](ctx, c, http.MethodPost, "/v1/recover", nil)
}

// StatusOf returns the HTTP status of an answer that is an error, 0 if err is none.
func StatusOf(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

func (e *Error) Error() string {
	return fmt.Sprintf("the node answered %d: %s", e.Status, e.Message)
}

func call[Answer any](ctx context.Context, c *Client, method, path string, body any) (*Answer, error) {
	what := fmt.Sprintf("%s %s%s", method, c.base, path)
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%s: encoding the request: %w", what, err)
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, reader)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address is in what already
		}
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("%s: reading the answer: %w", what, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		e := &Error{}
		if json.Unmarshal(text, e) != nil || e.Message == "" {
			e.Message = http.StatusText(resp.StatusCode)
		}
		e.Status = resp.StatusCode
		return nil, fmt.Errorf("%s: %w", what, e)
	}
	answer := new(Answer)
	if len(bytes.TrimSpace(text)) > 0 {
		if err := json.Unmarshal(text, answer); err != nil {
			return nil, fmt.Errorf("%s: decoding the answer: %w", what, err)
		}
	}
	return answer, nil
}

// Bootstrap makes the unjoined store node at address the first of a new cluster and returns the cluster's id. The
// node must prove the join token before the site CA's key is sent, both on one TLS connection; req.Proof is
// filled in here. Errors: *Error, pki.ErrProof when somebody else answers at the address.
func Bootstrap(ctx context.Context, address, token string, req BootstrapRequest) (string, error) {
	var (
		mu   sync.Mutex
		conn *tls.Conn
	)
	transport := &http.Transport{MaxConnsPerHost: 1, DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if conn != nil {
			return nil, errors.New("the node closed the connection on which it proved the token")
		}
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{
			MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, //nolint:gosec // the node has no certificate yet: the proofs authenticate
		}}
		nc, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		conn, _ = nc.(*tls.Conn)
		return nc, nil
	}}
	defer transport.CloseIdleConnections()
	c := &Client{base: "https://" + address, http: &http.Client{Transport: transport}}
	hello, err := call[BootstrapResponse](ctx, c, http.MethodGet, "/v1/bootstrap", nil)
	if err != nil {
		return "", err
	}
	state := conn.ConnectionState()
	if err := pki.CheckProof(&state, token, pki.SideNode, hello.Proof); err != nil {
		return "", fmt.Errorf("bootstrapping %s: %w", address, err)
	}
	if req.Proof, err = pki.Prove(&state, token, pki.SideProvider); err != nil {
		return "", fmt.Errorf("bootstrapping %s: %w", address, err)
	}
	resp, err := call[BootstrapResponse](ctx, c, http.MethodPost, "/v1/bootstrap", req)
	if err != nil {
		return "", err
	}
	return resp.ClusterID, nil
}
