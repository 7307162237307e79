package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// avoidFor is how long a member that cannot serve is asked only when there is no other.
const avoidFor = 5 * time.Second

// reach is which members are talked to.
type reach struct {
	mu    sync.Mutex
	conns map[*conn]netip.AddrPort
	avoid map[netip.AddrPort]time.Time // until when
}

// conn is a connection that is known by whom it reaches.
type conn struct {
	net.Conn

	of *reach
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.Conn.Close() //nolint:wrapcheck // as the connection has it
}

// dial connects to the member at an address, or, where a name is given, to any member that accepts: those that could
// not serve of late come last.
func (c *Client) dial(ctx context.Context, to string) (net.Conn, error) {
	if address, err := netip.ParseAddrPort(to); err == nil {
		return c.connect(ctx, address)
	}
	addresses, err := c.cfg.Resolve(ctx)
	if err != nil {
		return nil, fmt.Errorf("finding etcd: %w", err)
	}
	problems := []error{errors.New("no etcd member can be reached")}
	for _, a := range c.members.order(addresses) {
		conn, err := c.connect(ctx, a)
		if err == nil {
			return c.members.track(conn, a), nil
		}
		problems = append(problems, err)
	}
	return nil, errors.Join(problems...)
}

func (c *Client) connect(ctx context.Context, address netip.AddrPort) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	return dialer.DialContext(ctx, "tcp", address.String()) //nolint:wrapcheck // says what and where
}

func (r *reach) track(nc net.Conn, a netip.AddrPort) net.Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		r.conns = map[*conn]netip.AddrPort{}
	}
	c := &conn{Conn: nc, of: r}
	r.conns[c] = a
	return c
}

// order shuffles addresses and puts those to be avoided behind the others.
func (r *reach) order(addresses []netip.AddrPort) []netip.AddrPort {
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	r.mu.Lock()
	defer r.mu.Unlock()
	var good, bad []netip.AddrPort
	for _, a := range addresses {
		if time.Now().Before(r.avoid[a]) {
			bad = append(bad, a)
		} else {
			good = append(good, a)
		}
	}
	return append(good, bad...)
}

// leave ends the present connections; the next dial prefers other members.
func (r *reach) leave() {
	r.mu.Lock()
	if r.avoid == nil {
		r.avoid = map[netip.AddrPort]time.Time{}
	}
	var open []*conn
	for c, a := range r.conns {
		open = append(open, c)
		r.avoid[a] = time.Now().Add(avoidFor)
	}
	r.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // gRPC connects again
	}
}

// unserving are what a member answers that cannot serve now, while another may: a learner, one without a leader or cut
// off from the others, one that stops.
func unserving(err error) bool {
	for _, known := range []error{
		rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner), rpctypes.ErrNoLeader, rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToConnectionLost,
		rpctypes.ErrTimeoutDueToLeaderFail, rpctypes.ErrStopped, rpctypes.ErrMemberNotFound, rpctypes.ErrTimeoutWaitAppliedIndex,
	} {
		if errors.Is(rpctypes.Error(err), known) || errors.Is(err, known) {
			return true
		}
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// judge turns to another member if an error says that the present one cannot serve.
func (c *Client) judge(err error) {
	if err != nil && unserving(err) {
		c.members.leave()
	}
}

// admit asks for this node's rights if an error says that it has none.
func (c *Client) admit(ctx context.Context, err error) {
	if c.cfg.Admit == nil || !Denied(err) {
		return
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	if err := c.cfg.Admit(ctx); err != nil && ctx.Err() == nil {
		c.cfg.Log.Warn("asking for this node's rights in etcd", "error", err)
	}
}

// Denied tells whether etcd refused for want of rights.
func Denied(err error) bool {
	for _, known := range []error{rpctypes.ErrPermissionDenied, rpctypes.ErrUserNotFound, rpctypes.ErrUserEmpty} {
		if errors.Is(rpctypes.Error(err), known) || errors.Is(err, known) {
			return true
		}
	}
	return false
}

// call makes one request. One that was refused because somebody's rights changed meanwhile was not carried out, and is
// made again; one that its member cannot serve goes to another member next time.
func (c *Client) call(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	for {
		err := invoke(ctx, method, req, reply, cc, opts...)
		if err == nil {
			return nil
		}
		if errors.Is(rpctypes.Error(err), rpctypes.ErrAuthOldRevision) && ctx.Err() == nil {
			continue
		}
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			c.judge(err)
			if ctx.Err() != nil {
				c.judge(ctx.Err())
			}
		}
		return err
	}
}
