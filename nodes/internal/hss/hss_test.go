package hss_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss/hsstest"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

func TestMemoryConforms(t *testing.T) { hsstest.Conformance(t, hsstest.NewFixture().Load()) }

func TestClientConforms(t *testing.T) {
	ln, err := net.Listen("tcp", "127.21.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served, ran := make(chan error, 1), make(chan error, 1)
	double := hsstest.NewFixture().Load()
	server := rpc.NewServer(nil, hss.Handlers(double), slog.New(slog.DiscardHandler))
	go func() { served <- server.Serve(ctx, ln) }()
	client := rpc.NewClient(rpc.ClientConfig{Name: "hss", MethodNames: hss.MethodNames(), RetryInterrupted: true,
		Resolve: func(context.Context) ([]netip.AddrPort, error) {
			return []netip.AddrPort{netip.MustParseAddrPort(ln.Addr().String())}, nil
		}})
	go func() { ran <- client.Run(ctx) }()
	hsstest.Conformance(t, hss.NewClient(client))

	double.FailWith(rpc.ErrUnavailable)
	_, err = hss.NewClient(client).Locate(ctx, &hss.LocateRequest{Impu: "sip:bob@example.com"})
	if !errors.Is(err, rpc.ErrUnavailable) || hss.ResultOf(err) != hss.Result_RESULT_UNAVAILABLE {
		t.Errorf("got %v", err)
	}
	cancel()
	if err := errors.Join(<-served, <-ran); err != nil {
		t.Error(err)
	}
}

func TestResultOf(t *testing.T) {
	for err, want := range map[error]hss.Result{
		nil:                      hss.Result_RESULT_OK,
		rpc.ErrTimeout:           hss.Result_RESULT_TIMEOUT,
		context.DeadlineExceeded: hss.Result_RESULT_TIMEOUT,
		rpc.ErrInterrupted:       hss.Result_RESULT_UNAVAILABLE,
	} {
		if got := hss.ResultOf(err); got != want {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
}
