package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
)

// probeLimit is how long one member is waited for when all are asked how they are.
const probeLimit = time.Second

// Peer is a member of the etcd, as its configuration has it.
type Peer struct {
	ID      uint64
	Name    string // empty until it has started for the first time
	PeerURL string
	Client  string // address for clients, empty until it has started
	Learner bool
}

// Standing is what a member says of itself.
type Standing struct {
	ID       uint64
	Leader   uint64 // 0: it knows none, so there is no quorum
	Learner  bool
	Revision int64 // of the data that it has
}

// Peers returns the members and the id of the cluster; it needs a quorum.
func (c *Client) Peers(ctx context.Context) (clusterID string, peers []Peer, err error) {
	return c.peers(ctx)
}

func (c *Client) peers(ctx context.Context, opts ...clientv3.OpOption) (clusterID string, peers []Peer, err error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	list, err := c.etcd.MemberList(ctx, opts...)
	if err != nil {
		return "", nil, fmt.Errorf("listing etcd members: %w", err)
	}
	return fmt.Sprintf("%x", list.Header.ClusterId), peersOf(list.Members), nil
}

func peersOf(members []*etcdserverpb.Member) []Peer {
	out := make([]Peer, 0, len(members))
	for _, m := range members {
		p := Peer{ID: m.ID, Name: m.Name, Learner: m.IsLearner}
		if len(m.PeerURLs) > 0 {
			p.PeerURL = m.PeerURLs[0]
		}
		if len(m.ClientURLs) > 0 {
			if u, err := url.Parse(m.ClientURLs[0]); err == nil {
				p.Client = u.Host
			}
		}
		out = append(out, p)
	}
	return out
}

// AddLearner makes room for a member that will be reached at peerURL, without a vote.
func (c *Client) AddLearner(ctx context.Context, peerURL string) ([]Peer, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	resp, err := c.etcd.MemberAddAsLearner(ctx, []string{peerURL})
	if err != nil {
		return nil, fmt.Errorf("adding an etcd member at %s: %w", peerURL, err)
	}
	return peersOf(resp.Members), nil
}

// Promote gives a learner its vote; ErrConflict when it is not caught up yet.
func (c *Client) Promote(ctx context.Context, id uint64) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	_, err := c.etcd.MemberPromote(ctx, id)
	if errors.Is(err, rpctypes.ErrMemberLearnerNotReady) {
		return fmt.Errorf("promoting etcd member %x: %w: it is not caught up", id, ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("promoting etcd member %x: %w", id, err)
	}
	return nil
}

// RemovePeer takes a member out; one that is not there is no error.
func (c *Client) RemovePeer(ctx context.Context, id uint64) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	if _, err := c.etcd.MemberRemove(ctx, id); err != nil && !errors.Is(err, rpctypes.ErrMemberNotFound) {
		return fmt.Errorf("removing etcd member %x: %w", id, err)
	}
	return nil
}

// MoveLeader makes another member the leader. It works only where the client talks to the present leader.
func (c *Client) MoveLeader(ctx context.Context, to uint64) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	if _, err := c.etcd.MoveLeader(ctx, to); err != nil {
		return fmt.Errorf("making etcd member %x the leader: %w", to, err)
	}
	return nil
}

// Probe asks the member at an address (host:port) how it is; it needs no quorum.
func (c *Client) Probe(ctx context.Context, address string) (Standing, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	scheme := "http"
	if c.cfg.TLS != nil {
		scheme = "https"
	}
	status, err := c.etcd.Status(ctx, scheme+"://"+address)
	if err != nil {
		return Standing{}, fmt.Errorf("asking the etcd member at %s: %w", address, err)
	}
	return Standing{ID: status.Header.MemberId, Leader: status.Leader, Learner: status.IsLearner, Revision: status.Header.Revision}, nil
}

// Members returns the id of the cluster and its members, with the state of each. Without a quorum it is what the member
// that answers remembers.
func (c *Client) Members(ctx context.Context) (id string, members []management.Member, err error) {
	first, cancel := context.WithTimeout(ctx, quorumLimit)
	quorum := c.Leader(first) == nil
	cancel()
	var opts []clientv3.OpOption
	if !quorum {
		opts = append(opts, clientv3.WithSerializable())
	}
	id, peers, err := c.peers(ctx, opts...)
	if err != nil {
		return "", nil, err
	}
	members = make([]management.Member, len(peers))
	var g errgroup.Group
	for i, p := range peers {
		members[i] = management.Member{ID: fmt.Sprintf("%x", p.ID), Name: p.Name, Learner: p.Learner}
		if p.Client == "" {
			continue
		}
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, probeLimit)
			defer cancel()
			if s, err := c.Probe(ctx, p.Client); err == nil {
				members[i].Healthy, members[i].Leader = s.Leader != 0, s.Leader == p.ID
			}
			return nil
		})
	}
	return id, members, g.Wait()
}

// quorumLimit is how long a read waits for a quorum before it takes what one member remembers.
const quorumLimit = 2 * time.Second

// remembered reads with a quorum, or, where there is none, what the member that answers has on its disk.
func (c *Client) remembered(ctx context.Context, ops func(...clientv3.OpOption) []clientv3.Op) (*clientv3.TxnResponse, error) {
	first, cancel := context.WithTimeout(ctx, quorumLimit)
	resp, err := c.etcd.Txn(first).Then(ops()...).Commit()
	cancel()
	if err == nil || ctx.Err() != nil || Denied(err) {
		return resp, err //nolint:wrapcheck // the callers say what was being done
	}
	return c.etcd.Txn(ctx).Then(ops(clientv3.WithSerializable())...).Commit() //nolint:wrapcheck // as above
}

// SetLeaving notes that a store node is about to leave, or that it stays after all.
func (c *Client) SetLeaving(ctx context.Context, node string, leaving bool) (err error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	if leaving {
		_, err = c.etcd.Put(ctx, c.key("leaving", node), "")
	} else {
		_, err = c.etcd.Delete(ctx, c.key("leaving", node))
	}
	if err != nil {
		return fmt.Errorf("noting whether %s leaves: %w", node, err)
	}
	return nil
}

// Leaving returns the store nodes that are about to leave.
func (c *Client) Leaving(ctx context.Context) (map[string]bool, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	resp, err := c.etcd.Get(ctx, c.key("leaving", ""), clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, fmt.Errorf("reading who leaves: %w", err)
	}
	out := map[string]bool{}
	for _, kv := range resp.Kvs {
		out[path.Base(string(kv.Key))] = true
	}
	return out, nil
}
