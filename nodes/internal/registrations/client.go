package registrations

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// Methods of the store's registration service.
const (
	MethodApply  rpc.Method = 1
	MethodGet    rpc.Method = 2
	MethodSettle rpc.Method = 3
)

// Caller is the part of *rpc.Client that Client needs.
type Caller interface {
	Call(ctx context.Context, m rpc.Method, req []byte) ([]byte, error)
}

// Client asks the store. Every call needs a deadline on its context. Errors: ErrInvalid for a request that cannot
// be applied; rpc.ErrUnavailable and rpc.ErrTimeout when no answer came. After a time-out or rpc.ErrInterrupted it is
// unknown whether an Apply was done: applied again it answers OUTCOME_NONCE_USED or OUTCOME_OUT_OF_ORDER.
type Client struct{ store Caller }

// NewClient returns a client over a connection to the store.
func NewClient(store Caller) *Client { return &Client{store: store} }

// Apply changes a record in one compare-and-swap: see Change.
func (c *Client) Apply(ctx context.Context, req *ApplyRequest) (*ApplyResponse, error) {
	resp := &ApplyResponse{}
	if err := c.call(ctx, MethodApply, req, resp); err != nil {
		return nil, fmt.Errorf("applying a registration of %s: %w", req.GetAor(), err)
	}
	return resp, nil
}

// Get reads a record without its lapsed bindings. A set that has none gives an empty record.
func (c *Client) Get(ctx context.Context, aor string) (*Record, error) {
	resp := &GetResponse{}
	if err := c.call(ctx, MethodGet, &GetRequest{Aor: aor}, resp); err != nil {
		return nil, fmt.Errorf("reading the registration of %s: %w", aor, err)
	}
	if resp.Record == nil {
		return &Record{Aor: aor}, nil
	}
	return resp.GetRecord(), nil
}

// Settle clears effects that have been done. Ids that are not owed (any more) are no error.
func (c *Client) Settle(ctx context.Context, aor string, ids ...string) error {
	if err := c.call(ctx, MethodSettle, &SettleRequest{Aor: aor, EffectIds: ids}, &SettleResponse{}); err != nil {
		return fmt.Errorf("settling effects of %s: %w", aor, err)
	}
	return nil
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
