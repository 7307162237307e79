package cx

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// serveTimeout bounds the work for a request of the HSS, routerTimeout one attempt at a router.
const (
	serveTimeout  = 8 * time.Second
	routerTimeout = 2 * time.Second
	mostRouters   = 3 // that are tried
)

// HTTPRouters tells routers over their HTTP interface (9888).
type HTTPRouters struct {
	// Find lists addresses of routers.
	Find   func(ctx context.Context) ([]netip.AddrPort, error)
	Client *http.Client
}

// Deregister is Routers.Deregister.
func (h *HTTPRouters) Deregister(ctx context.Context, list []Registration, notify bool) error {
	type one struct {
		Primary string `json:"primary-impu"`
		IMPI    string `json:"impi,omitempty"`
	}
	var body struct {
		Registrations []one `json:"registrations"`
	}
	for _, r := range list {
		body.Registrations = append(body.Registrations, one(r))
	}
	if err := h.tell(ctx, http.MethodDelete, fmt.Sprintf("/registrations?send-notifications=%t", notify), body); err != nil {
		return fmt.Errorf("ending registrations at a router: %w", err)
	}
	return nil
}

// Push is Routers.Push.
func (h *HTTPRouters) Push(ctx context.Context, primary, profile string) error {
	if err := h.tell(ctx, http.MethodPut, "/registrations/"+url.PathEscape(primary), map[string]string{"user-data-xml": profile}); err != nil {
		return fmt.Errorf("giving a router a changed profile: %w", err)
	}
	return nil
}

// tell tries routers until one has done it. A router that refuses what is asked (4xx) speaks for all.
func (h *HTTPRouters) tell(ctx context.Context, method, path string, body any) error {
	payload, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encoding: %w", err)
	}
	addrs, err := h.Find(ctx)
	if err != nil {
		return fmt.Errorf("finding routers: %w", err)
	}
	failed := errors.New("there is no router")
	for i, a := range addrs {
		if i == mostRouters || ctx.Err() != nil {
			break
		}
		status, err := h.once(ctx, method, "http://"+a.String()+path, payload)
		switch {
		case err == nil && status < 300:
			return nil
		case err == nil && status < 500:
			return fmt.Errorf("router %s refuses with %d", a, status)
		case err == nil:
			err = fmt.Errorf("router %s answers %d", a, status)
		}
		failed = err
	}
	return failed
}

func (h *HTTPRouters) once(ctx context.Context, method, target string, payload []byte) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, routerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(payload))
	if err != nil {
		return 0, fmt.Errorf("making the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := h.Client.Do(req)
	if err != nil {
		return 0, err //nolint:wrapcheck // it says what and where
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}
