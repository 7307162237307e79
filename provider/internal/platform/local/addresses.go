package local

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// freeBlock proposes a /24: deterministic for a deployment, spread over the range, not recorded by another deployment of
// this root, and nothing listening where a name server or a node would.
func (l *Local) freeBlock(ctx context.Context, seed string, attempt int) (netip.Prefix, error) {
	recorded, err := l.recordedBlocks()
	if err != nil {
		return netip.Prefix{}, err
	}
	blocks := uint32(1) << (24 - l.cfg.Addresses.Bits())
	sum := sha256.Sum256([]byte(seed))
	first := binary.BigEndian.Uint32(sum[:4]) + uint32(attempt) //nolint:gosec // a small count
	base := l.cfg.Addresses.Masked().Addr().As4()
	for i := range blocks {
		n := binary.BigEndian.Uint32(base[:]) + ((first+i)%blocks)<<8
		var bytes [4]byte
		binary.BigEndian.PutUint32(bytes[:], n)
		block := netip.PrefixFrom(netip.AddrFrom4(bytes), 24)
		if reserved(block) || recorded[block] || !free(ctx, block) {
			continue
		}
		return block, nil
	}
	return netip.Prefix{}, fmt.Errorf("no free block of addresses in %s", l.cfg.Addresses)
}

// reserved are the blocks that systems use themselves.
func reserved(block netip.Prefix) bool {
	return block.Contains(netip.MustParseAddr("127.0.0.1")) || block.Contains(netip.MustParseAddr("127.0.1.1"))
}

func (l *Local) recordedBlocks() (map[netip.Prefix]bool, error) {
	out := map[netip.Prefix]bool{}
	entries, err := os.ReadDir(l.cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("looking for deployments: %w", err)
	}
	for _, e := range entries {
		folder := l.named(e.Name())
		if d, err := folder.ReadDeployment(); err == nil && d.Block != "" {
			if block, err := netip.ParsePrefix(d.Block); err == nil {
				out[block] = true
			}
		}
		networks, err := folder.Networks()
		if err != nil {
			continue // not a state folder
		}
		for _, n := range networks {
			out[n.CIDR] = true
		}
	}
	return out, nil
}

// free tries the name server's address and the first node's.
func free(ctx context.Context, block netip.Prefix) bool {
	if _, err := choosePorts(ctx, serverOf(block)); err != nil {
		return false
	}
	first := block.Addr().As4()
	first[3] = 10
	return canBind(ctx, netip.AddrFrom4(first), 9440) == nil
}

func serverOf(block netip.Prefix) netip.Addr {
	bytes := block.Addr().As4()
	bytes[3] = 2
	return netip.AddrFrom4(bytes)
}

// choosePorts tells which ports this user may open: those below 1024 move when they are forbidden.
func choosePorts(ctx context.Context, address netip.Addr) (platform.Ports, error) {
	ports := platform.Ports{DNS: 53, PortalHTTP: 80, PortalHTTPS: 443}
	err := canBind(ctx, address, ports.DNS)
	if errors.Is(err, syscall.EACCES) {
		ports = platform.Ports{DNS: 10053, PortalHTTP: 8080, PortalHTTPS: 8443}
		err = canBind(ctx, address, ports.DNS)
	}
	return ports, err
}

// canBind opens and closes both kinds of socket.
func canBind(ctx context.Context, address netip.Addr, port int) error {
	where := net.JoinHostPort(address.String(), strconv.Itoa(port))
	var config net.ListenConfig
	packets, err := config.ListenPacket(ctx, "udp", where)
	if err != nil {
		return fmt.Errorf("trying %s: %w", where, err)
	}
	stream, err := config.Listen(ctx, "tcp", where)
	if err != nil {
		return errors.Join(fmt.Errorf("trying %s: %w", where, err), packets.Close())
	}
	return errors.Join(packets.Close(), stream.Close())
}
