package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"

	"github.com/miekg/dns"
)

// nameServer answers for one zone on UDP and TCP.
type nameServer struct {
	zone    atomic.Pointer[zone]
	servers []*dns.Server
	log     *slog.Logger
}

// listenDNS takes both sockets, or neither. It serves nothing until run.
func listenDNS(ctx context.Context, address string, log *slog.Logger) (*nameServer, error) {
	s := &nameServer{log: log}
	var config net.ListenConfig
	packets, err := config.ListenPacket(ctx, "udp", address)
	if err != nil {
		return nil, fmt.Errorf("name server: %w", err)
	}
	stream, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("name server: %w", err), packets.Close())
	}
	s.servers = []*dns.Server{{PacketConn: packets, Handler: s}, {Listener: stream, Handler: s}}
	return s, nil
}

// run serves until the context ends.
func (s *nameServer) run(ctx context.Context) error {
	ended := make(chan error, len(s.servers))
	for _, server := range s.servers {
		go func() { ended <- server.ActivateAndServe() }()
	}
	var err error
	select {
	case err = <-ended:
		err = fmt.Errorf("name server: %w", err)
	case <-ctx.Done():
	}
	for _, server := range s.servers {
		if server.PacketConn != nil {
			_ = server.PacketConn.Close() // ends its loop
		}
		if server.Listener != nil {
			_ = server.Listener.Close()
		}
	}
	return err
}

// ServeDNS implements dns.Handler.
func (s *nameServer) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
	if z := s.zone.Load(); z != nil {
		reply = z.answer(query)
	}
	if _, packets := w.LocalAddr().(*net.UDPAddr); packets {
		size := dns.MinMsgSize
		if option := query.IsEdns0(); option != nil {
			size = max(size, int(option.UDPSize()))
		}
		reply.Truncate(size)
	}
	if err := w.WriteMsg(reply); err != nil {
		s.log.Debug("answering a query", "error", err)
	}
}
