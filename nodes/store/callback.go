package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

// addresses finds hosts; *resolve.Resolver is one.
type addresses interface {
	Addrs(ctx context.Context, host string, port uint16) ([]netip.AddrPort, error)
}

// newHTTPClient calls back through the deployment's names. Its connections live for a few seconds only, so that
// callbacks spread over nodes that come and go.
func newHTTPClient(names addresses) *http.Client {
	dialer := net.Dialer{Timeout: time.Second}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 64, IdleConnTimeout: 5 * time.Second,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				host, service, err := net.SplitHostPort(address)
				if err != nil {
					return nil, fmt.Errorf("calling back: %w", err)
				}
				port, err := strconv.ParseUint(service, 10, 16)
				if err != nil {
					return nil, fmt.Errorf("calling back: port %q: %w", service, err)
				}
				found, err := names.Addrs(ctx, host, uint16(port))
				if err != nil {
					return nil, err
				}
				rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
				problems := []error{fmt.Errorf("no node of %s can be reached", host)}
				for _, a := range found {
					conn, err := dialer.DialContext(ctx, network, a.String())
					if err == nil {
						return conn, nil
					}
					problems = append(problems, err)
				}
				return nil, errors.Join(problems...)
			},
		},
	}
}

// lapse shows a record to a router: POST /timers with the address of record.
func lapse(options func() *config.Options, client *http.Client) func(ctx context.Context, aor string) error {
	return func(ctx context.Context, aor string) error {
		callback := options().RouterCallback
		if callback == "" {
			return errors.New("no shared configuration yet: sprout_chronos_callback_uri is unknown")
		}
		body, err := json.Marshal(map[string]string{"aor_id": aor})
		if err != nil {
			return fmt.Errorf("preparing the request: %w", err)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+callback+"/timers", bytes.NewReader(body))
		if err != nil {
			return fmt.Errorf("preparing the request: %w", err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("the router answered %s", resp.Status)
		}
		return nil
	}
}
