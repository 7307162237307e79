package records

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// maxAnswer bounds the values of one Scan or Get, so that the answer fits into a frame (rpc.MaxPayload is 4 MiB).
const maxAnswer = 3 << 20

// Handlers serves s over rpc.
func Handlers(s Service) map[rpc.Method]rpc.Handler {
	return map[rpc.Method]rpc.Handler{
		MethodGet: handler(func(ctx context.Context, req *GetRequest) (*GetResponse, error) {
			rows, err := s.Get(ctx, req.GetTable(), req.GetKeys()...)
			return &GetResponse{Rows: rows}, err
		}),
		MethodSwap: handler(func(ctx context.Context, req *SwapRequest) (*SwapResponse, error) {
			if req.GetDelete() {
				deleted, err := s.Delete(ctx, req.GetTable(), req.GetKey(), req.GetVersion())
				return &SwapResponse{Swapped: deleted}, err
			}
			version, swapped, err := s.Swap(ctx, req.GetTable(), req.GetKey(), req.GetVersion(), req.GetValue())
			return &SwapResponse{Swapped: swapped, Version: version}, err
		}),
		MethodScan: handler(func(ctx context.Context, req *ScanRequest) (*ScanResponse, error) {
			rows, more, err := s.Scan(ctx, req.GetTable(), req.GetPrefix(), req.GetAfter(), int(req.GetLimit()))
			rows, cut := fitting(rows)
			return &ScanResponse{Rows: rows, More: more || cut}, err
		}),
	}
}

// fitting is as many of the rows as one answer can carry, at least one.
func fitting(rows []*Row) (fit []*Row, cut bool) {
	size := 0
	for i, r := range rows {
		if size += len(r.GetKey()) + len(r.GetValue()) + 32; size > maxAnswer && i > 0 {
			return rows[:i], true
		}
	}
	return rows, false
}

// MethodNames are the names of the methods in metrics.
func MethodNames() map[rpc.Method]string {
	return map[rpc.Method]string{MethodGet: "records_get", MethodSwap: "records_swap", MethodScan: "records_scan"}
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
