package rpc

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// message is a pointer to a generated protobuf struct.
type message[T any] interface {
	*T
	proto.Message
}

// Unary makes a Handler of a typed function.
func Unary[Req, Resp any, PReq message[Req], PResp message[Resp]](f func(context.Context, PReq) (PResp, error)) Handler {
	return func(ctx context.Context, payload []byte) ([]byte, error) {
		req := PReq(new(Req))
		if err := proto.Unmarshal(payload, req); err != nil {
			return nil, &StatusError{StatusInvalid, fmt.Sprintf("decoding the request: %v", err)}
		}
		resp, err := f(ctx, req)
		if err != nil {
			return nil, err
		}
		out, err := proto.Marshal(resp)
		if err != nil {
			return nil, fmt.Errorf("encoding the answer: %w", err)
		}
		return out, nil
	}
}

// Invoke is a typed Call: it fills resp with the answer.
func (c *Client) Invoke(ctx context.Context, m Method, req, resp proto.Message) error {
	b := newBuffer(0)
	defer b.release()
	var err error
	if b.bytes, err = (proto.MarshalOptions{}).MarshalAppend(b.bytes, req); err != nil {
		return fmt.Errorf("encoding the request: %w", err)
	}
	return c.do(ctx, m, b.bytes, func(answer []byte) error {
		if err := proto.Unmarshal(answer, resp); err != nil {
			return fmt.Errorf("decoding the answer: %w", err)
		}
		return nil
	})
}

// Invoke calls m on c and returns the typed answer: rpc.Invoke[Answer](ctx, c, m, req).
func Invoke[Resp any, PResp message[Resp]](ctx context.Context, c *Client, m Method, req proto.Message) (PResp, error) {
	resp := PResp(new(Resp))
	if err := c.Invoke(ctx, m, req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}
