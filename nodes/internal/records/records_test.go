package records_test

import (
	"context"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/records/recordstest"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

func TestMemoryConforms(t *testing.T) {
	recordstest.Run(t, func(*testing.T) records.Service { return records.NewMemory() })
}

// direct hands calls to handlers as the wire would.
type direct map[rpc.Method]rpc.Handler

func (d direct) Call(ctx context.Context, m rpc.Method, req []byte) ([]byte, error) {
	return d[m](ctx, req)
}

func TestClientConforms(t *testing.T) {
	recordstest.Run(t, func(*testing.T) records.Service {
		return records.NewClient(direct(records.Handlers(records.NewMemory())))
	})
}
