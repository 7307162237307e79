package etcd

import (
	"context"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
)

// lead is the leader's work: access control is on, there are not more members than there should be, and those that never
// came up go.
func (m *Membership) lead(ctx context.Context, self uint64, peers []cluster.Peer) error {
	if err := m.Own.Secure(ctx, m.Member.Name); err != nil {
		return err
	}
	if err := m.dropUnborn(ctx, peers); err != nil {
		return err
	}
	nodes, leaving, err := m.stores(ctx)
	if err != nil {
		return err
	}
	staying, last := 0, cluster.Peer{}
	for _, p := range peers {
		if leaving[p.Name] {
			continue
		}
		staying++
		if p.ID != self && p.Name != "" && (last.ID == 0 || (p.Learner && !last.Learner) || (p.Learner == last.Learner && later(p.Name, last.Name))) {
			last = p
		}
	}
	if staying <= wanted(nodes) || last.ID == 0 || len(peers) == 1 {
		return nil
	}
	m.Log.Info("one etcd member fewer for the number of store nodes", "member", last.Name, "store_nodes", nodes, "members", staying)
	if err := m.Site.RemovePeer(ctx, last.ID); err != nil {
		m.Log.Warn("taking an etcd member out, trying again", "member", last.Name, "error", err) // too soon after a change
	}
	return nil
}

// later tells whether a is the node with the higher index.
func later(a, b string) bool { return len(a) > len(b) || (len(a) == len(b) && a > b) }

func (m *Membership) dropUnborn(ctx context.Context, peers []cluster.Peer) error {
	m.mu.Lock()
	seen := map[uint64]time.Time{}
	var late []cluster.Peer
	for _, p := range peers {
		if p.Name != "" {
			continue
		}
		seen[p.ID] = time.Now()
		if at, ok := m.unborn[p.ID]; ok {
			seen[p.ID] = at
		}
		if time.Since(seen[p.ID]) > slowStart {
			late = append(late, p)
		}
	}
	m.unborn = seen
	m.mu.Unlock()
	for _, p := range late {
		m.Log.Warn("an etcd member that was added did not come up: it is taken out", "member", p.PeerURL)
		if err := m.Site.RemovePeer(ctx, p.ID); err != nil {
			return err
		}
	}
	return nil
}
