// Command hop is one stateful, record-routing proxy hop and nothing else: the node's own transport, transactions and proxy
// core with a function that looks the called user up in memory. It is what `make bench` measures beside Kamailio; it is
// in no image.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:5060", "address and port, UDP and TCP")
	called := flag.String("called", "127.0.0.1:5080", "where every called user is")
	users := flag.Int("users", 2000, "called users that are known: 6505500000 and up")
	profile := flag.String("profile", "", "file for a CPU profile of the whole run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, *called, *users, *profile); err != nil {
		fmt.Fprintln(os.Stderr, "hop:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen, called string, users int, profile string) error {
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	addr, err := netip.ParseAddrPort(listen)
	if err != nil {
		return err
	}
	log, metrics := slog.New(slog.NewTextHandler(os.Stderr, nil)), prometheus.NewRegistry()
	resolver, err := resolve.New(resolve.Config{Servers: []string{"127.0.0.1"}}, resolve.Deps{Log: log, Metrics: metrics})
	if err != nil {
		return err
	}
	wire, err := transport.New(transport.Config{Listeners: []transport.Listener{
		{Name: "hop", Transport: resolve.UDP, Addr: addr}, {Name: "hop", Transport: resolve.TCP, Addr: addr},
	}}, transport.Deps{Log: log, Metrics: metrics})
	if err != nil {
		return err
	}
	h := &hop{here: addr, route: "<sip:" + listen + ";lr>", contacts: map[string]string{}}
	for i := range users {
		user := fmt.Sprintf("65055%05d", i)
		h.contacts[user] = "sip:" + user + "@" + called
	}
	core := proxy.New(proxy.Config{
		Accept: func(*sip.Message, proxy.Flow) proxy.Function { return h },
		Local:  h.local,
		SentBy: func(proxy.Flow) string { return listen },
	}, proxy.Deps{Resolver: resolver, Wire: wire, Log: log})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return core.Run(ctx) })
	group.Go(func() error { return wire.Run(ctx, core) })
	return group.Wait()
}

// hop is the function.
type hop struct {
	here     netip.AddrPort
	route    string
	contacts map[string]string // by user
}

// Name implements proxy.Function.
func (*hop) Name() string { return "hop" }

// Prompt implements proxy.Prompt: everything is in memory.
func (*hop) Prompt(*sip.Message) bool { return true }

// Serve implements proxy.Function.
func (h *hop) Serve() proxy.Handler { return &handler{hop: h} }

// local knows its own Record-Route again.
func (h *hop) local(u sip.URI) proxy.Function {
	if u.Port != int(h.here.Port()) || u.User != "" {
		return nil
	}
	if addr, ok := resolve.ParseHost(u.Host); !ok || addr != h.here.Addr() {
		return nil
	}
	return h
}

type handler struct {
	proxy.Forwarding
	hop *hop
}

// Initial sends the request to where the user is, and stays in the dialog.
func (h *handler) Initial(_ context.Context, r *proxy.Request) proxy.Decision {
	u, err := sip.ParseURI(r.Msg.URI)
	if err != nil {
		return proxy.Answer(r, 400)
	}
	contact, ok := h.hop.contacts[u.User]
	if !ok {
		return proxy.Answer(r, 404)
	}
	r.Msg.URI = contact
	r.Msg.Push(sip.RecordRoute, h.hop.route)
	return proxy.Forward(proxy.Target{Msg: r.Msg})
}
