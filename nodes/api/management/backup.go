package management

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// CreateBackup takes a backup on the node; it takes as long as there is data, up to ctx.
func (c *Client) CreateBackup(ctx context.Context) (*Backup, error) {
	return call[Backup](ctx, c.patient(), http.MethodPost, "/v1/backups", nil)
}

// Backups lists the node's backups, the newest first.
func (c *Client) Backups(ctx context.Context) ([]Backup, error) {
	list, err := call[[]Backup](ctx, c, http.MethodGet, "/v1/backups", nil)
	if err != nil {
		return nil, err
	}
	return *list, nil
}

// ReadBackup copies a backup of the node to w. A broken transfer shows at the restore: a backup has a checksum.
func (c *Client) ReadBackup(ctx context.Context, id string, w io.Writer) error {
	body, err := c.stream(ctx, "/v1/backups/"+url.PathEscape(id), nil)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("reading backup %s: %w", id, err)
	}
	return nil
}

// Restore puts a backup back, one of the node by its id, or the one that from holds (then id is empty). only names databases;
// none means all. StatusOf(err) is 404 for an unknown id and 422 for a backup that is refused: nothing was changed then.
func (c *Client) Restore(ctx context.Context, id string, from io.Reader, only []string) (*Restored, error) {
	query := url.Values{}
	if id != "" {
		query.Set("id", id)
	}
	if len(only) > 0 {
		query.Set("only", strings.Join(only, ","))
	}
	body, err := c.stream(ctx, "/v1/restore?"+query.Encode(), from)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	var out Restored
	if err := json.NewDecoder(io.LimitReader(body, maxBody)).Decode(&out); err != nil {
		return nil, fmt.Errorf("decoding the answer to a restore: %w", err)
	}
	return &out, nil
}

// patient is the client without a limit of its own.
func (c *Client) patient() *Client {
	h := *c.http
	h.Timeout = 0
	return &Client{base: c.base, http: &h}
}

// stream posts a body of any length and returns that of the answer.
func (c *Client) stream(ctx context.Context, path string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("POST %s%s: %w", c.base, path, err)
	}
	resp, err := c.patient().http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("POST %s%s: %w", c.base, path, err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }()
	e := &Error{}
	if json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(e) != nil || e.Message == "" {
		e.Message = http.StatusText(resp.StatusCode)
	}
	e.Status = resp.StatusCode
	return nil, fmt.Errorf("POST %s%s: %w", c.base, path, e)
}
