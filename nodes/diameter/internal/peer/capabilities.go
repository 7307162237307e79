package peer

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/dictionary"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
)

// product is our Product-Name.
const product = "Clearwater"

// capabilities is what a peer says of itself in CER or CEA (RFC 6733 5.3).
type capabilities struct {
	host, realm  string
	applications map[uint32]bool
}

// introduce adds to b what this node says of itself.
func (n *Node) introduce(b *wire.Builder, local net.Addr) *wire.Builder {
	addresses := n.cfg.Addresses
	if ap, err := netip.ParseAddrPort(local.String()); err == nil && len(addresses) == 0 {
		addresses = []netip.Addr{ap.Addr()}
	}
	for _, ip := range addresses {
		b.Address(wire.HostIPAddress, ip)
	}
	b.Uint32(wire.VendorID, 0).Text(wire.ProductName, product).Uint32(wire.OriginStateID, n.stateID).Uint32(wire.SupportedVendorID, wire.Vendor3G)
	for _, id := range n.cfg.Applications {
		b.Begin(wire.VendorSpecificApplicationID).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.AuthApplicationID, id).End()
	}
	return b
}

// readCapabilities takes those of a peer from its CER or CEA.
func readCapabilities(m wire.Message) capabilities {
	who := capabilities{host: m.Text(wire.OriginHost), realm: m.Text(wire.OriginRealm), applications: map[uint32]bool{}}
	add := func(data []byte) {
		if id, ok := wire.Number(data); ok {
			who.applications[id] = true
		}
	}
	for s := m.AVPs(); s.Next(); {
		switch {
		case s.Kind.Is(wire.AuthApplicationID), s.Kind.Is(wire.AcctApplicationID):
			add(s.Data)
		case s.Kind.Is(wire.VendorSpecificApplicationID):
			for in := wire.Group(s.Data); in.Next(); {
				if in.Kind.Is(wire.AuthApplicationID) || in.Kind.Is(wire.AcctApplicationID) {
					add(in.Data)
				}
			}
		}
	}
	return who
}

// common tells whether a peer has an application of ours, or is a relay.
func (n *Node) common(who capabilities) bool {
	if who.applications[wire.Relay] {
		return true
	}
	for _, id := range n.cfg.Applications {
		if who.applications[id] {
			return true
		}
	}
	return false
}

// greet exchanges capabilities on a connection that we have dialled.
func (n *Node) greet(nc net.Conn) (*bufio.Reader, capabilities, error) {
	_ = nc.SetDeadline(time.Now().Add(n.cfg.Connect))
	m, err := n.introduce(n.base(wire.CapabilitiesExchange), nc.LocalAddr()).Finish()
	if err != nil {
		return nil, capabilities{}, fmt.Errorf("making the CER: %w", err)
	}
	m.SetHopByHop(rand.Uint32())
	m.SetEndToEnd(n.endToEnd.Add(1))
	if _, err := nc.Write(m); err != nil {
		return nil, capabilities{}, fmt.Errorf("sending the CER: %w", err)
	}
	reader := bufio.NewReaderSize(nc, 64<<10)
	answer, err := wire.Read(reader)
	if err != nil {
		return nil, capabilities{}, fmt.Errorf("waiting for the CEA: %w", err)
	}
	if answer.Request() || answer.Command() != wire.CapabilitiesExchange || answer.HopByHop() != m.HopByHop() {
		return nil, capabilities{}, fmt.Errorf("command %d came in place of the CEA", answer.Command())
	}
	if code, _ := answer.Uint32(wire.ResultCode); code != wire.Success {
		return nil, capabilities{}, fmt.Errorf("the peer refused our capabilities with %d %s", code, answer.Text(wire.ErrorMessage))
	}
	if f := n.deps.Dictionary.Validate(answer); f != nil {
		return nil, capabilities{}, fmt.Errorf("the CEA is wrong: %w", f)
	}
	who := readCapabilities(answer)
	switch {
	case strings.EqualFold(who.host, n.cfg.Host):
		return nil, who, errors.New("the peer is this node itself")
	case !n.common(who):
		return nil, who, fmt.Errorf("peer %s has none of our applications", who.host)
	}
	_ = nc.SetDeadline(time.Time{})
	return reader, who, nil
}

// welcome exchanges capabilities on a connection that was accepted.
func (n *Node) welcome(nc net.Conn) (*bufio.Reader, capabilities, error) {
	_ = nc.SetDeadline(time.Now().Add(n.cfg.Connect))
	reader := bufio.NewReaderSize(nc, 64<<10)
	m, err := wire.Read(reader)
	if err != nil {
		return nil, capabilities{}, fmt.Errorf("waiting for a CER: %w", err)
	}
	if !m.Request() || m.Application() != wire.Base || m.Command() != wire.CapabilitiesExchange {
		return nil, capabilities{}, fmt.Errorf("command %d came before a CER", m.Command())
	}
	who := readCapabilities(m)
	var fault *dictionary.FaultError
	switch {
	case n.deps.Dictionary.Validate(m) != nil:
		fault = n.deps.Dictionary.Validate(m)
	case strings.EqualFold(who.host, n.cfg.Host):
		fault = &dictionary.FaultError{Code: wire.UnknownPeer, Text: "that is this node's own name"}
	case !n.common(who):
		fault = &dictionary.FaultError{Code: wire.NoCommonApplication, Text: "no application in common"}
	}
	if fault != nil {
		if answer := n.Refuse(m, fault); answer != nil {
			_, _ = nc.Write(answer) // it is closed in any case
		}
		return nil, who, fault
	}
	b := wire.NewAnswer(m, 0).Uint32(wire.ResultCode, wire.Success).Text(wire.OriginHost, n.cfg.Host).Text(wire.OriginRealm, n.cfg.Realm)
	answer, err := n.introduce(b, nc.LocalAddr()).Finish()
	if err != nil {
		return nil, who, fmt.Errorf("making the CEA: %w", err)
	}
	if _, err := nc.Write(answer); err != nil {
		return nil, who, fmt.Errorf("sending the CEA: %w", err)
	}
	_ = nc.SetDeadline(time.Time{})
	return reader, who, nil
}
