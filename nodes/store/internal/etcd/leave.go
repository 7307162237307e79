package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Leave hands this node's part over for good: others take its vote first, the leader moves, then its member goes. The
// only store node leaves nothing to nobody: that is nil at once.
func (m *Membership) Leave(ctx context.Context) error {
	if err := m.Site.SetLeaving(ctx, m.Member.Name, true); err != nil {
		return err
	}
	n, _, err := m.stores(ctx)
	if err != nil {
		return err
	}
	if n == 0 {
		return m.Site.SetLeaving(ctx, m.Member.Name, false)
	}
	began, said := time.Now(), ""
	for {
		gone, err := m.leave(ctx, n, time.Since(began) > successorLimit)
		if gone {
			return nil
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			m.Log.Info("leaving etcd", "waits_for", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("leaving etcd: %w (%w)", ctx.Err(), err)
		case <-time.After(poll):
		}
	}
}

// successorLimit is how long a leaving member waits for enough others with a vote before it goes with fewer, if only
// there is one.
const successorLimit = 30 * time.Second

// leave is one step; gone says that no member of this node is left.
func (m *Membership) leave(ctx context.Context, nodes int, late bool) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*askLimit)
	defer cancel()
	_, peers, err := m.Site.Peers(ctx)
	if err != nil {
		return false, err
	}
	self, in := find(peers, m.Member.peerURL())
	if !in {
		if m.IsMember() {
			return false, errors.New("the end of its member")
		}
		return true, nil
	}
	leaving, err := m.Site.Leaving(ctx)
	if err != nil {
		return false, err
	}
	others, heir := 0, uint64(0)
	for _, p := range peers {
		if p.ID != self.ID && !p.Learner && !leaving[p.Name] {
			others, heir = others+1, p.ID
		}
	}
	if others < wanted(nodes) && (!late || others == 0) {
		return false, fmt.Errorf("%d other members with a vote, there are %d", wanted(nodes), others)
	}
	if standing, err := m.probe(ctx); err == nil && standing.Leader == standing.ID {
		if err := m.Own.MoveLeader(ctx, heir); err != nil {
			return false, err
		}
		return false, errors.New("another leader")
	}
	if err := m.Site.RemovePeer(ctx, self.ID); err != nil {
		return false, err
	}
	return false, errors.New("the end of its member")
}

// Yield moves the leadership away before this node restarts, if it has it and somebody can take it.
func (m *Membership) Yield(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	standing, err := m.Own.Probe(ctx, m.Member.Client())
	if err != nil || standing.Leader != standing.ID {
		return
	}
	_, peers, err := m.Own.Peers(ctx)
	if err != nil {
		return
	}
	for _, p := range peers {
		if p.ID == standing.ID || p.Learner || p.Client == "" {
			continue
		}
		if _, err := m.Own.Probe(ctx, p.Client); err == nil && m.Own.MoveLeader(ctx, p.ID) == nil {
			return
		}
	}
}

// Stay takes Leave back: this node may become a member again.
func (m *Membership) Stay(ctx context.Context) error {
	return m.Site.SetLeaving(ctx, m.Member.Name, false)
}
