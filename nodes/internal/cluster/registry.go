package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/client/v3"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
)

const (
	leaseSeconds = 10               // after which a node that is silent counts as failed
	freshen      = 30 * time.Second // between writes of an entry that does not change, for its last_seen
)

// Announce says who this node is and how it is; Run publishes it. It does not block, and says nothing new for free.
func (c *Client) Announce(r management.Registration) {
	r.Applied, r.LastSeen = maps.Clone(r.Applied), time.Time{}
	c.mu.Lock()
	same := reflect.DeepEqual(c.self, &r)
	c.self = &r
	c.mu.Unlock()
	if !same {
		c.nudge()
	}
}

func (c *Client) nudge() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// entry is what is to be published, false while the node has not said who it is.
func (c *Client) entry() (name, value string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.self == nil || c.self.Name == "" {
		return "", "", false
	}
	r := *c.self
	r.LastSeen = time.Now().UTC().Truncate(time.Second)
	text, err := json.Marshal(r)
	return r.Name, string(text), err == nil
}

// register keeps the entry and its lease alive; it returns when the lease is lost or ctx ends.
func (c *Client) register(ctx context.Context) error {
	grantCtx, cancel := limited(ctx)
	lease, err := c.etcd.Grant(grantCtx, leaseSeconds)
	cancel()
	if err != nil {
		return fmt.Errorf("taking a lease: %w", err)
	}
	defer c.revoke(ctx, lease.ID)
	alive, err := c.etcd.KeepAlive(ctx, lease.ID)
	if err != nil {
		return fmt.Errorf("keeping the lease: %w", err)
	}
	if err := c.publish(ctx, lease.ID); err != nil {
		return err
	}
	tick := time.NewTicker(freshen)
	defer tick.Stop()
	for {
		select {
		case _, ok := <-alive:
			if !ok {
				return fmt.Errorf("the lease %x is lost", lease.ID)
			}
			continue
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-c.changed:
		}
		if err := c.publish(ctx, lease.ID); err != nil {
			return err
		}
	}
}

// publish writes the entry, and under the lease the sign that the node lives.
func (c *Client) publish(ctx context.Context, lease clientv3.LeaseID) error {
	name, value, ok := c.entry()
	if !ok {
		return nil
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	_, err := c.etcd.Txn(ctx).Then(
		clientv3.OpPut(c.key("nodes", name), value),
		clientv3.OpPut(c.key("alive", name), "", clientv3.WithLease(lease)),
	).Commit()
	if err != nil {
		return fmt.Errorf("publishing the state of this node: %w", err)
	}
	return nil
}

// revoke ends the lease on a clean stop, after a last write of the state.
func (c *Client) revoke(ctx context.Context, lease clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = c.publish(ctx, lease)
	_, _ = c.etcd.Revoke(ctx, lease) // it lapses by itself if this does not arrive
}

// Nodes returns every node of the site that is registered, by name. One that fell silent without having been drained
// is Failed.
func (c *Client) Nodes(ctx context.Context) ([]management.Registration, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	resp, err := c.remembered(ctx, func(opts ...clientv3.OpOption) []clientv3.Op {
		return []clientv3.Op{
			clientv3.OpGet(c.key("nodes", ""), append(opts, clientv3.WithPrefix())...),
			clientv3.OpGet(c.key("alive", ""), append(opts, clientv3.WithPrefix(), clientv3.WithKeysOnly())...),
		}
	})
	if err != nil {
		return nil, fmt.Errorf("reading the registry: %w", err)
	}
	alive := map[string]bool{}
	for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
		alive[path.Base(string(kv.Key))] = true
	}
	out := []management.Registration{}
	for _, kv := range resp.Responses[0].GetResponseRange().Kvs {
		var r management.Registration
		if err := json.Unmarshal(kv.Value, &r); err != nil {
			return nil, fmt.Errorf("reading the registry entry %s: %w", kv.Key, err)
		}
		switch {
		case alive[r.Name]:
			r.LastSeen = time.Now().UTC().Truncate(time.Second)
		case r.State != management.Drained:
			r.State = management.Failed
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b management.Registration) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// Forget removes a node and its join token from the registry; ErrNotFound when neither is there. A node that still
// lives comes back.
func (c *Client) Forget(ctx context.Context, name string) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	resp, err := c.etcd.Txn(ctx).Then(
		clientv3.OpDelete(c.key("nodes", name)), clientv3.OpDelete(c.key("alive", name)), clientv3.OpDelete(c.key("tokens", name)),
		clientv3.OpDelete(c.key("leaving", name)),
	).Commit()
	if err != nil {
		return fmt.Errorf("forgetting node %s: %w", name, err)
	}
	deleted := int64(0)
	for _, r := range resp.Responses {
		deleted += r.GetResponseDeleteRange().Deleted
	}
	if deleted == 0 {
		return fmt.Errorf("forgetting node %s: %w", name, ErrNotFound)
	}
	return nil
}
