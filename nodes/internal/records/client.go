package records

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// Methods of the store's record service.
const (
	MethodGet  rpc.Method = 10
	MethodSwap rpc.Method = 11
	MethodScan rpc.Method = 12
)

// Caller is the part of *rpc.Client that Client needs.
type Caller interface {
	Call(ctx context.Context, m rpc.Method, req []byte) ([]byte, error)
}

// Client asks the store; it is a Service. Every call needs a deadline on its context. Errors: ErrInvalid, or
// rpc.ErrUnavailable and rpc.ErrTimeout when no answer came. After a time-out or rpc.ErrInterrupted it is unknown
// whether a Swap or Delete was done: read the row again.
type Client struct{ store Caller }

// NewClient returns a client over a connection to the store.
func NewClient(store Caller) *Client { return &Client{store: store} }

// Get is Service.Get.
func (c *Client) Get(ctx context.Context, table string, keys ...string) ([]*Row, error) {
	if err := CheckKeys(table, keys...); err != nil {
		return nil, err
	}
	resp := &GetResponse{}
	if err := c.call(ctx, MethodGet, &GetRequest{Table: table, Keys: keys}, resp); err != nil {
		return nil, fmt.Errorf("reading %d rows of %s: %w", len(keys), table, err)
	}
	if len(resp.GetRows()) != len(keys) {
		return nil, fmt.Errorf("reading %d rows of %s: %d came back", len(keys), table, len(resp.GetRows()))
	}
	return resp.GetRows(), nil
}

// Swap is Service.Swap.
func (c *Client) Swap(ctx context.Context, table, key string, version uint64, value []byte) (uint64, bool, error) {
	if err := errors.Join(CheckKeys(table, key), CheckValue(value)); err != nil {
		return 0, false, err
	}
	resp := &SwapResponse{}
	if err := c.call(ctx, MethodSwap, &SwapRequest{Table: table, Key: key, Version: version, Value: value}, resp); err != nil {
		return 0, false, fmt.Errorf("writing %s of %s: %w", key, table, err)
	}
	return resp.GetVersion(), resp.GetSwapped(), nil
}

// Delete is Service.Delete.
func (c *Client) Delete(ctx context.Context, table, key string, version uint64) (bool, error) {
	if err := CheckKeys(table, key); err != nil {
		return false, err
	}
	resp := &SwapResponse{}
	if err := c.call(ctx, MethodSwap, &SwapRequest{Table: table, Key: key, Version: version, Delete: true}, resp); err != nil {
		return false, fmt.Errorf("deleting %s of %s: %w", key, table, err)
	}
	return resp.GetSwapped(), nil
}

// Scan is Service.Scan.
func (c *Client) Scan(ctx context.Context, table, prefix, after string, limit int) ([]*Row, bool, error) {
	if err := CheckTable(table); err != nil {
		return nil, false, err
	}
	req := &ScanRequest{Table: table, Prefix: prefix, After: after, Limit: uint32(max(0, min(limit, MaxScan)))} //nolint:gosec // bounded
	resp := &ScanResponse{}
	if err := c.call(ctx, MethodScan, req, resp); err != nil {
		return nil, false, fmt.Errorf("scanning %s: %w", table, err)
	}
	return resp.GetRows(), resp.GetMore(), nil
}

func (c *Client) call(ctx context.Context, m rpc.Method, req, resp proto.Message) error {
	payload, err := proto.Marshal(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	answer, err := c.store.Call(ctx, m, payload)
	if err != nil {
		var status *rpc.StatusError
		if errors.As(err, &status) && status.Code == rpc.StatusInvalid {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return err
	}
	if err := proto.Unmarshal(answer, resp); err != nil {
		return fmt.Errorf("decoding the answer: %w", err)
	}
	return nil
}
