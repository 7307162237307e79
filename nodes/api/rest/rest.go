// Package rest is what the clients of the public HTTP APIs (provisioning, documents, portal) share: one request
// with a deadline, a bounded answer and a typed error, and a transport that finds hosts through the deployment's
// own DNS servers. It knows no API's paths. The clients of node-to-node calls are elsewhere.
package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// MaxAnswer bounds what a client reads of an answer, in bytes.
const MaxAnswer = 8 << 20

// ErrTooLarge means that an answer is over MaxAnswer.
var ErrTooLarge = errors.New("too large")

// Error is an answer that is not the success the caller wanted.
type Error struct {
	Method, URL string
	Status      int
	Reason      string        // from the body, or the status text
	RetryAfter  time.Duration // of a 503 that says so: it was refused, and nothing was done
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s %s: %d %s", e.Method, e.URL, e.Status, e.Reason)
}

// Status returns the HTTP status that err carries, or 0 if no answer arrived.
func Status(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// IsNotFound tells whether err is an answer of 404.
func IsNotFound(err error) bool { return Status(err) == http.StatusNotFound }

// IsUnreachable tells whether err means that the service cannot answer now: no connection, a time-out, 502, 503 or 504.
func IsUnreachable(err error) bool {
	if err == nil {
		return false
	}
	switch s := Status(err); s {
	case 0:
		var dial *url.Error
		return errors.As(err, &dial)
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	default:
		return false
	}
}

// Client sends requests to one service.
type Client struct {
	base   string
	http   *http.Client
	header http.Header
}

// New returns a client for a base URL such as http://hs.example.com:8889. A nil httpClient means one with the
// machine's resolver; NewHTTPClient makes one with the deployment's. Redirects are handed to the caller, never followed.
func New(base string, httpClient *http.Client) *Client {
	if httpClient == nil {
		httpClient = NewHTTPClient(Options{})
	}
	own := *httpClient
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: strings.TrimRight(base, "/"), http: &own, header: http.Header{}}
}

// With returns a copy that sends one more header field with every request.
func (c *Client) With(name, value string) *Client {
	own := *c
	own.header = c.header.Clone()
	own.header.Set(name, value)
	return &own
}

// Request is one call. Body is sent as it is, with ContentType if that is set.
type Request struct {
	Method      string
	Path        string // escaped, with query
	Body        []byte
	ContentType string
	Header      http.Header
	Expect      []int // statuses that are success; empty means any 2xx
}

// Answer is a success.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// patience bounds how long a request is repeated that a server refuses for having too much to do.
const patience = 15 * time.Second

// Do sends a request and reads its whole answer. Any status that is not expected comes back as *Error. A server that has
// too much to do (503 with Retry-After) is asked again, for up to 15 s.
func (c *Client) Do(ctx context.Context, r Request) (*Answer, error) {
	until := time.Now().Add(patience)
	for {
		answer, err := c.twice(ctx, r)
		var refused *Error
		if !errors.As(err, &refused) || refused.RetryAfter == 0 {
			return answer, err
		}
		// Not all who were refused come back at once.
		wait := refused.RetryAfter + rand.N(refused.RetryAfter)
		if time.Now().Add(wait).After(until) {
			return answer, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return answer, err
		case <-timer.C:
		}
	}
}

// twice tries a method that may be repeated (all but POST) once more if the connection breaks, on a connection to any
// address of the host.
func (c *Client) twice(ctx context.Context, r Request) (*Answer, error) {
	answer, err := c.once(ctx, r)
	if err == nil || Status(err) != 0 || errors.Is(err, ErrTooLarge) || r.Method == http.MethodPost || ctx.Err() != nil || isTimeout(err) {
		return answer, err
	}
	return c.once(ctx, r)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func (c *Client) once(ctx context.Context, r Request) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, c.base+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		return nil, fmt.Errorf("building request %s %s: %w", r.Method, r.Path, err)
	}
	for _, header := range []http.Header{c.header, r.Header} {
		for name, values := range header {
			req.Header[name] = values
		}
	}
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	if r.Method != http.MethodPost {
		req.Header["Idempotency-Key"] = nil // tells net/http, and not the server, that a kept connection found dead is no failure
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err // *url.Error names method, URL and cause
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("reading answer of %s %s: %w", r.Method, req.URL, err)
	}
	if len(body) > MaxAnswer {
		return nil, fmt.Errorf("%w: answer of %s %s is over %d bytes", ErrTooLarge, r.Method, req.URL, MaxAnswer)
	}
	if !expected(r.Expect, resp.StatusCode) {
		return nil, &Error{Method: r.Method, URL: req.URL.String(), Status: resp.StatusCode, Reason: reason(resp, body), RetryAfter: retryAfter(resp)}
	}
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// JSON sends in (unless nil) as JSON and reads the answer into out (unless nil).
func (c *Client) JSON(ctx context.Context, method, path string, in, out any) error {
	r := Request{Method: method, Path: path}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encoding body of %s %s: %w", method, path, err)
		}
		r.Body, r.ContentType = body, "application/json"
	}
	answer, err := c.Do(ctx, r)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer.Body, out); err != nil {
		return fmt.Errorf("decoding answer of %s %s: %w", method, path, err)
	}
	return nil
}

// retryAfter is when a server that refuses wants to be asked again (RFC 9110 10.2.3, in seconds); zero when it does not say.
func retryAfter(resp *http.Response) time.Duration {
	if resp.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return max(time.Duration(seconds)*time.Second, time.Second/10)
}

func expected(statuses []int, status int) bool {
	if len(statuses) == 0 {
		return status >= 200 && status < 300
	}
	for _, s := range statuses {
		if s == status {
			return true
		}
	}
	return false
}

// reason finds the most telling words in an error answer: the reason of a JSON body, a short text, or the status.
func reason(resp *http.Response, body []byte) string {
	var fields struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
		Error   any    `json:"error"`
	}
	if json.Unmarshal(body, &fields) == nil {
		for _, s := range []string{fields.Reason, fields.Message} {
			if s != "" {
				return s
			}
		}
		if s, ok := fields.Error.(string); ok && s != "" {
			return s
		}
	}
	text := strings.TrimSpace(string(body))
	if text == "" {
		return http.StatusText(resp.StatusCode)
	}
	if len(text) > 500 {
		text = text[:500] + "..."
	}
	return text
}

// Escape escapes one path segment. SIP URIs go out with : and @ escaped, as existing clients send them.
func Escape(segment string) string {
	return strings.NewReplacer(":", "%3A", "@", "%40", "+", "%2B").Replace(url.PathEscape(segment))
}
