// Package shard shares the due work of a site out among its store nodes: each shard has one owner, by lease in etcd, and
// moves when the owner dies, leaves or others come. A lease does not fence, so each taking has a revision, which the
// owner writes into the engine before it works, and which the work's own swaps carry: an owner that finds a higher one
// stops. While etcd is away owners go on until they do. What the work is it does not know.
package shard

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

const (
	table      = "_shards"              // of the engine: shard -> revision of its last owner
	leaseTTL   = 5                      // seconds of silence after which an owner's shards are free
	tick       = 500 * time.Millisecond // between looks
	askLimit   = 2 * time.Second
	closeLimit = 2 * time.Second
)

// Cluster is where ownership is agreed on; *cluster.Client is one.
type Cluster interface {
	Share(ctx context.Context, name string, ttl int64) (*cluster.Session, error)
	Shards(ctx context.Context) (sharing []string, held map[int]cluster.Holding, err error)
}

// Keeper knows which shards are this node's.
type Keeper struct {
	name    string
	shards  int
	cluster Cluster
	engine  engine.Engine
	log     *slog.Logger
	owns    prometheus.Gauge

	mu      sync.Mutex
	mine    map[int]holding
	changed []func()
	away    bool          // this node takes no part
	wake    chan struct{} // capacity 1
}

// holding is how a shard is held: taken is the revision of the taking in etcd, fence the one that the engine knows, which
// is higher where etcd has been set up anew and counts from the beginning.
type holding struct{ taken, fence int64 }

// New returns the keeper of node name for that many shards. Run takes part.
func New(name string, shards int, c Cluster, e engine.Engine, log *slog.Logger, reg prometheus.Registerer) *Keeper {
	k := &Keeper{name: name, shards: shards, cluster: c, engine: e, log: log, mine: map[int]holding{}, wake: make(chan struct{}, 1),
		owns: prometheus.NewGauge(prometheus.GaugeOpts{Name: "ims_timer_shards_owned", Help: "Shards of due work that this node does."})}
	reg.MustRegister(k.owns)
	return k
}

// Owns tells whether a shard is this node's, and since which revision.
func (k *Keeper) Owns(shard int) (revision int64, mine bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h, mine := k.mine[shard]
	return h.fence, mine
}

func (k *Keeper) holds(shard int) (h holding, mine bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h, mine = k.mine[shard]
	return h, mine
}

// OnChange calls f whenever this node has got or lost a shard.
func (k *Keeper) OnChange(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changed = append(k.changed, f)
}

// Sole says that other nodes may write what this one is to do.
func (k *Keeper) Sole() bool { return false }

// Pause makes this node give up its shards and take no more; Resume takes that back.
func (k *Keeper) Pause() { k.setAway(true) }

// Resume takes part again.
func (k *Keeper) Resume() { k.setAway(false) }

func (k *Keeper) setAway(away bool) {
	k.mu.Lock()
	k.away = away
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Held is how many shards this node has.
func (k *Keeper) Held() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return int64(len(k.mine))
}

// Run takes part until ctx ends; then what is held is free at once.
func (k *Keeper) Run(ctx context.Context) error {
	var session *cluster.Session
	defer func() {
		closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
		defer cancel()
		k.end(closeCtx, session)
	}()
	timer := time.NewTicker(tick)
	defer timer.Stop()
	told := false
	for {
		var err error
		if session, err = k.look(ctx, session); err != nil && ctx.Err() == nil && !told {
			k.log.Warn("sharing out due work: what this node has it goes on with", "shards", k.Held(), "error", err)
		}
		told = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		case <-timer.C:
		}
	}
}

// end gives everything back.
func (k *Keeper) end(ctx context.Context, session *cluster.Session) {
	for _, n := range k.held() {
		k.lose(n)
	}
	if session != nil {
		_ = session.Close(ctx) // it lapses by itself if this does not arrive
	}
}

// look compares once what is held with what should be. It returns the session that goes on.
func (k *Keeper) look(ctx context.Context, session *cluster.Session) (*cluster.Session, error) {
	if err := k.fenced(ctx); err != nil {
		return session, err
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	k.mu.Lock()
	away := k.away
	k.mu.Unlock()
	if away {
		k.end(ctx, session)
		return nil, nil
	}
	if session != nil {
		select {
		case <-session.Lost():
			session = nil
		default:
		}
	}
	if session == nil {
		var err error
		// The session outlives this look: its lease is kept until it is closed or the process ends.
		if session, err = k.cluster.Share(context.WithoutCancel(ctx), k.name, leaseTTL); err != nil {
			return nil, err
		}
	}
	sharing, held, err := k.cluster.Shards(ctx)
	if err != nil {
		return session, err
	}
	for n := range k.shards {
		if err := k.settle(ctx, session, n, k.due(sharing, n), held); err != nil {
			return session, err
		}
	}
	return session, nil
}

// due tells whether a shard should be this node's: those who take part get them in turn.
func (k *Keeper) due(sharing []string, n int) bool {
	return len(sharing) > 0 && sharing[n%len(sharing)] == k.name
}

// settle brings one shard to what it should be.
func (k *Keeper) settle(ctx context.Context, session *cluster.Session, n int, due bool, held map[int]cluster.Holding) error {
	h, mine := k.holds(n)
	other, isHeld := held[n]
	switch {
	case mine && isHeld && other.Revision != h.taken: // another took it while our lease was lost
		k.lose(n)
	case mine && isHeld && !due:
		k.lose(n)
		return session.Drop(ctx, n, h.taken)
	case mine && !isHeld && !due:
		k.lose(n)
	case !mine && isHeld && other.Owner == k.name: // of this node's former life, or given up for a fence
		return session.Drop(ctx, n, other.Revision)
	case due && !isHeld: // free, or ours by a lease that was lost
		return k.take(ctx, session, n)
	}
	return nil
}

func (k *Keeper) take(ctx context.Context, session *cluster.Session, n int) error {
	revision, taken, err := session.Take(ctx, n, k.name)
	if err != nil || !taken {
		return err
	}
	fence, err := k.fence(ctx, n, revision)
	if err != nil {
		k.lose(n)
		return err
	}
	k.mu.Lock()
	k.mine[n] = holding{revision, fence}
	k.mu.Unlock()
	k.tell()
	return nil
}

func (k *Keeper) lose(n int) {
	k.mu.Lock()
	delete(k.mine, n)
	k.mu.Unlock()
	k.tell()
}

func (k *Keeper) tell() {
	k.mu.Lock()
	k.owns.Set(float64(len(k.mine)))
	changed := slices.Clone(k.changed)
	k.mu.Unlock()
	for _, f := range changed {
		f()
	}
}

func (k *Keeper) held() []int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Collect(maps.Keys(k.mine))
}

// fence writes into the engine under which revision a shard is worked on from now. There may be a higher one than that of
// the taking: then etcd has been set up anew, or this node slept since; which of them, etcd is asked again.
func (k *Keeper) fence(ctx context.Context, n int, revision int64) (int64, error) {
	for {
		row, there, err := k.fencedBy(ctx, n)
		if err != nil {
			return 0, err
		}
		fence := revision
		if there >= revision {
			fence = there + 1
			_, held, err := k.cluster.Shards(ctx)
			if err != nil {
				return 0, err
			}
			if held[n].Revision != revision {
				return 0, fmt.Errorf("shard %d was taken by %s meanwhile", n, held[n].Owner)
			}
		}
		value := binary.BigEndian.AppendUint64(nil, uint64(fence)) //nolint:gosec // revisions are positive
		_, done, err := k.engine.Commit(ctx, engine.Swap(table, row.Key, row.Version, value))
		if err != nil {
			return 0, fmt.Errorf("fencing shard %d: %w", n, err)
		}
		if done {
			return fence, nil
		}
	}
}

func (k *Keeper) fencedBy(ctx context.Context, n int) (engine.Row, int64, error) {
	row, err := k.engine.Get(ctx, table, fmt.Sprintf("%02x", n))
	if err != nil {
		return row, 0, fmt.Errorf("reading who works on shard %d: %w", n, err)
	}
	if len(row.Value) != 8 {
		return row, 0, nil
	}
	return row, int64(binary.BigEndian.Uint64(row.Value)), nil //nolint:gosec // revisions are positive
}

// fenced gives up what another works on by now. It needs no etcd.
func (k *Keeper) fenced(ctx context.Context) error {
	for _, n := range k.held() {
		revision, mine := k.Owns(n)
		_, there, err := k.fencedBy(ctx, n)
		if err != nil {
			return err
		}
		if mine && there > revision {
			k.log.Info("another node works on a shard by now", "shard", n)
			k.lose(n)
		}
	}
	return nil
}
