package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
)

const (
	maxVoters   = 5
	maxLearners = 2 // from 1 to 3 and from 3 to 5 in one step, so that there are two voters only for a moment

	poll      = 250 * time.Millisecond // while something is not as it should be
	askLimit  = 2 * time.Second        // for one question
	slowStart = time.Minute            // for a member that was added to come up
)

// Why the cluster cannot be used from here.
var (
	errStarting = errors.New("the etcd member is starting")
	errOutside  = errors.New("this node belongs to no etcd cluster: it was not bootstrapped, and no member of an existing cluster lets it in")
	// ErrQuorum: the majority of the members is away.
	ErrQuorum  = errors.New("etcd has no quorum: configuration and membership are read-only until a majority of its members is back")
	errRemoved = errors.New("this node's etcd member was taken out of the cluster")
	errRestart = errors.New("the etcd member is to start in another way")
	errLost    = errors.New("the etcd member's data is gone, and no other member can be reached")
	// ErrHealthy refuses a recovery that would lose what is there.
	ErrHealthy = errors.New("etcd has a quorum: there is nothing to recover")
)

// Membership makes this node a member of its site's etcd, or a client of it, as the number of store nodes has it.
type Membership struct {
	Member     Member
	Supervisor *Supervisor                                 // its Member is set by Run
	Own        *cluster.Client                             // asks this node's member only
	Site       *cluster.Client                             // asks any member
	Prepare    func(ctx context.Context) error             // what this node needs before it is a member: the site CA. May be nil
	Founded    func(clusterID string)                      // called when the id of the cluster is known
	Documents  func() (shared string, m map[string]string) // what this node has cached of the configuration, for a recovery. May be nil
	Log        *slog.Logger

	state   atomic.Pointer[error] // why the cluster cannot be used now; a nil error when it can
	member  atomic.Bool           // a member runs here
	force   atomic.Bool           // the next start goes on alone
	restart chan struct{}         // capacity 1

	mu     sync.Mutex
	unborn map[uint64]time.Time // members that were added and have not started -> first seen
}

// Usable returns nil while the cluster has a quorum and answers this node.
func (m *Membership) Usable() error {
	if err := m.state.Load(); err != nil {
		return *err
	}
	return errStarting
}

// IsMember tells whether this node runs a member.
func (m *Membership) IsMember() bool { return m.member.Load() }

func (m *Membership) set(err error) { m.state.Store(&err) }

// Run keeps this node what it should be until ctx ends.
func (m *Membership) Run(ctx context.Context) error {
	m.restart, m.unborn = make(chan struct{}, 1), map[uint64]time.Time{}
	m.Supervisor.Member = func() Member { return m.Member }
	for ctx.Err() == nil {
		founded, known, err := m.Member.Founded()
		if err != nil {
			return err
		}
		ordered, err := m.Member.ordered()
		if err != nil {
			return err
		}
		if known {
			m.Founded(founded.ClusterID)
		}
		switch {
		case ordered != nil:
			err = m.serve(ctx, m.with(ctx, ""), ordered)
		case known && founded.Kind == kindMember && (m.Member.hasData() || (founded.Initial != "" && m.awaited(ctx))):
			if err = m.stillIn(ctx); err == nil {
				err = m.serve(ctx, m.with(ctx, founded.Initial), nil)
			}
		default:
			err = m.outside(ctx, known && founded.Kind == kindMember)
		}
		if errors.Is(err, errRemoved) {
			m.Log.Warn("this node is an etcd member no more", "reason", err)
			err = errors.Join(m.Member.wipe(), m.Member.SetFounded(Founded{ClusterID: founded.ClusterID, Kind: kindClient}))
		}
		if err != nil && !errors.Is(err, errRestart) && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// with is the member as it starts now. Only while an order is there may it found a cluster: a member whose data is gone
// must not start an empty one.
func (m *Membership) with(ctx context.Context, initial string) func() Member {
	return func() Member {
		member := m.Member
		_, err := os.Stat(m.Member.orderFile())
		member.Initial, member.New, member.Force = initial, err == nil, m.force.Load()
		if initial == "" || m.Member.hasData() {
			return member
		}
		ctx, cancel := context.WithTimeout(ctx, askLimit)
		defer cancel()
		if _, peers, err := m.Site.Peers(ctx); err == nil { // others may have been added meanwhile
			member.Initial = m.initial(peers)
		}
		return member
	}
}

// serve runs the member until ctx ends, or it was taken out, or is to be started in another way.
func (m *Membership) serve(ctx context.Context, settings func() Member, ordered *order) error {
	m.Supervisor.Member = settings
	m.member.Store(true)
	defer m.member.Store(false)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.Supervisor.Run(ctx) })
	g.Go(func() error { return m.watch(ctx, ordered) })
	return g.Wait()
}

// watch keeps asking the member and its cluster, and does what is needed.
func (m *Membership) watch(ctx context.Context, ordered *order) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		if ordered != nil {
			if err := m.Own.Leader(ctx); err != nil {
				m.set(err)
			} else if err := m.found(ctx, ordered); err != nil {
				m.set(err)
			} else {
				ordered = nil
			}
		}
		if ordered == nil {
			err := m.tend(ctx)
			if errors.Is(err, errRemoved) {
				m.set(err)
				return err
			}
			m.set(err)
			if err == nil {
				tick.Reset(4 * poll)
			} else {
				tick.Reset(poll)
			}
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

// tend looks at the cluster once from a member.
func (m *Membership) tend(ctx context.Context) error {
	standing, probeErr := m.probe(ctx) // one that is dead takes all the time it is given
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if probeErr == nil && standing.Leader == 0 {
		return ErrQuorum
	}
	id, peers, err := m.Site.Peers(ctx)
	if err != nil {
		if probeErr != nil {
			return probeErr
		}
		return fmt.Errorf("%w (%w)", ErrQuorum, err)
	}
	self, in := find(peers, m.Member.peerURL())
	switch {
	case !in:
		return errRemoved
	case probeErr != nil:
		return probeErr
	case m.force.CompareAndSwap(true, false):
		m.Log.Warn("this etcd member goes on alone: the others must join anew", "cluster_id", id)
	}
	if self.Learner {
		return m.promote(ctx, self, peers)
	}
	if err := m.settled(id); err != nil {
		return err
	}
	if standing.Leader == standing.ID {
		return m.lead(ctx, standing.ID, peers)
	}
	return nil
}

// probe asks this node's member how it is.
func (m *Membership) probe(ctx context.Context) (cluster.Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit/2)
	defer cancel()
	return m.Own.Probe(ctx, m.Member.Client())
}

// settled notes that the member is a full one.
func (m *Membership) settled(id string) error {
	founded, known, err := m.Member.Founded()
	if err != nil || (known && founded == Founded{ClusterID: id}) {
		return err
	}
	m.Founded(id)
	return m.Member.SetFounded(Founded{ClusterID: id})
}

// promote asks for a vote once every member that was made room for has started.
func (m *Membership) promote(ctx context.Context, self cluster.Peer, peers []cluster.Peer) error {
	for _, p := range peers {
		if p.Name == "" {
			return fmt.Errorf("the etcd member waits with its vote for the member at %s", p.PeerURL)
		}
	}
	if err := m.Site.Promote(ctx, self.ID); err != nil {
		return err
	}
	m.Log.Info("this node's etcd member votes", "voters", voters(peers)+1)
	return nil
}

// wanted is how many voting members there should be among that many store nodes.
func wanted(nodes int) int {
	switch {
	case nodes >= maxVoters:
		return maxVoters
	case nodes >= 3:
		return 3
	default:
		return 1
	}
}

// stores counts the store nodes that stay.
func (m *Membership) stores(ctx context.Context) (n int, leaving map[string]bool, err error) {
	nodes, err := m.Site.Nodes(ctx)
	if err != nil {
		return 0, nil, err
	}
	if leaving, err = m.Site.Leaving(ctx); err != nil {
		return 0, nil, err
	}
	self := false
	for _, node := range nodes {
		if node.Role != string(config.Store) || leaving[node.Name] {
			continue
		}
		n++
		self = self || node.Name == m.Member.Name
	}
	if !self && !leaving[m.Member.Name] {
		n++ // this node's entry is on its way
	}
	return n, leaving, nil
}

func find(peers []cluster.Peer, peerURL string) (cluster.Peer, bool) {
	for _, p := range peers {
		if p.PeerURL == peerURL {
			return p, true
		}
	}
	return cluster.Peer{}, false
}

func voters(peers []cluster.Peer) (n int) {
	for _, p := range peers {
		if !p.Learner {
			n++
		}
	}
	return n
}
