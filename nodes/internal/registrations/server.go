package registrations

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// Service is what a server answers the calls with; the store implements it, and Memory for tests.
type Service interface {
	Apply(ctx context.Context, req *ApplyRequest) (*ApplyResponse, error)
	Get(ctx context.Context, aor string) (*Record, error)
	Settle(ctx context.Context, aor string, ids ...string) error
}

// Handlers serves s over rpc.
func Handlers(s Service) map[rpc.Method]rpc.Handler {
	return map[rpc.Method]rpc.Handler{
		MethodApply: handler(func(ctx context.Context, req *ApplyRequest) (*ApplyResponse, error) { return s.Apply(ctx, req) }),
		MethodGet: handler(func(ctx context.Context, req *GetRequest) (*GetResponse, error) {
			rec, err := s.Get(ctx, req.GetAor())
			return &GetResponse{Record: rec}, err
		}),
		MethodSettle: handler(func(ctx context.Context, req *SettleRequest) (*SettleResponse, error) {
			return &SettleResponse{}, s.Settle(ctx, req.GetAor(), req.GetEffectIds()...)
		}),
	}
}

// MethodNames are the names of the methods in metrics.
func MethodNames() map[rpc.Method]string {
	return map[rpc.Method]string{
		MethodApply: "registrations_apply", MethodGet: "registrations_get", MethodSettle: "registrations_settle",
	}
}

type message[T any] interface {
	proto.Message
	*T
}

func handler[Req, Resp any, PReq message[Req], PResp message[Resp]](do func(context.Context, PReq) (PResp, error)) rpc.Handler {
	return func(ctx context.Context, payload []byte) ([]byte, error) {
		req := PReq(new(Req))
		if err := proto.Unmarshal(payload, req); err != nil {
			return nil, &rpc.StatusError{Code: rpc.StatusInvalid, Message: err.Error()}
		}
		resp, err := do(ctx, req)
		if errors.Is(err, ErrInvalid) {
			return nil, &rpc.StatusError{Code: rpc.StatusInvalid, Message: err.Error()}
		}
		if err != nil {
			return nil, err
		}
		return proto.Marshal(resp)
	}
}
