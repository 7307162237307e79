package etcd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
)

// stillIn asks the other members, if one answers, whether this node is still one of them: it may have been taken out
// while it was away.
func (m *Membership) stillIn(ctx context.Context) error {
	if m.force.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	_, peers, err := m.Site.Peers(ctx)
	if err != nil {
		return nil //nolint:nilerr // nobody says otherwise
	}
	if _, in := find(peers, m.Member.peerURL()); !in {
		return errRemoved
	}
	return nil
}

// awaited tells whether the cluster has made room for this node's member and has not seen it yet.
func (m *Membership) awaited(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	_, peers, err := m.Site.Peers(ctx)
	self, in := find(peers, m.Member.peerURL())
	return err == nil && in && self.Name == ""
}

// outside is the life of a node without a member: it returns nil when it has become one, and until then uses those of
// others. lost says that it was one, whose data is gone.
func (m *Membership) outside(ctx context.Context, lost bool) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		joined, err := m.apply(ctx)
		switch {
		case joined:
			return nil
		case err != nil && lost:
			err = fmt.Errorf("%w (%w)", errLost, err)
		case err != nil:
			err = fmt.Errorf("%w (%w)", errOutside, err)
		default:
			lost = false
		}
		m.set(err)
		if err == nil {
			tick.Reset(4 * poll)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.restart:
			return errRestart
		case <-tick.C:
		}
	}
}

// apply looks once from outside: joined says that there is room for this node's member, which is to be started.
func (m *Membership) apply(ctx context.Context) (joined bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	id, peers, err := m.Site.Peers(ctx)
	if err != nil {
		return false, err
	}
	if m.Prepare != nil {
		if err := m.Prepare(ctx); err != nil {
			return false, err
		}
	}
	if old, there := find(peers, m.Member.peerURL()); there { // its data is gone, or it never started
		if err := m.Site.RemovePeer(ctx, old.ID); err != nil {
			return false, err
		}
		return false, nil
	}
	nodes, leaving, err := m.stores(ctx)
	if err != nil {
		return false, err
	}
	staying := 0
	for _, p := range peers {
		if !leaving[p.Name] {
			staying++
		}
	}
	if leaving[m.Member.Name] || staying >= wanted(nodes) {
		m.Founded(id)
		return false, m.Member.SetFounded(Founded{ClusterID: id, Kind: kindClient})
	}
	if err := m.Member.wipe(); err != nil {
		return false, err
	}
	peers, err = m.Site.AddLearner(ctx, m.Member.peerURL())
	if err != nil {
		m.Log.Info("no room for this node's etcd member yet", "reason", err)
		return false, nil
	}
	m.Log.Info("this node joins etcd as a learner", "members", len(peers))
	return true, m.Member.SetFounded(Founded{ClusterID: id, Initial: m.initial(peers)})
}

// initial is the list of members that a joining one starts with.
func (m *Membership) initial(peers []cluster.Peer) string {
	var parts []string
	for _, p := range peers {
		switch {
		case p.PeerURL == m.Member.peerURL():
			parts = append(parts, m.Member.Name+"="+p.PeerURL)
		case p.Name != "":
			parts = append(parts, p.Name+"="+p.PeerURL)
		default:
			parts = append(parts, fmt.Sprintf("%x=%s", p.ID, p.PeerURL))
		}
	}
	return strings.Join(parts, ",")
}
