package cluster

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"

	"go.etcd.io/etcd/client/v3"
)

// Session is a lease under which a node takes part in work that is shared out in numbered shards.
type Session struct {
	client *Client
	id     clientv3.LeaseID
	forget context.CancelFunc
	lost   chan struct{}
}

// Holding is who holds a shard. Each taking has a higher revision than the one before it.
type Holding struct {
	Owner    string
	Revision int64
}

// Share begins to take part as name, until Close, ctx, or this node's silence for ttl seconds ends it.
func (c *Client) Share(ctx context.Context, name string, ttl int64) (*Session, error) {
	first, cancel := limited(ctx)
	defer cancel()
	lease, err := c.etcd.Grant(first, ttl)
	if err != nil {
		return nil, fmt.Errorf("taking a lease: %w", err)
	}
	keeping, forget := context.WithCancel(ctx)
	alive, err := c.etcd.KeepAlive(keeping, lease.ID)
	if err == nil {
		_, err = c.etcd.Put(first, c.key("sharing", name), "", clientv3.WithLease(lease.ID))
	}
	if err != nil {
		forget()
		return nil, fmt.Errorf("taking part: %w", err)
	}
	s := &Session{client: c, id: lease.ID, forget: forget, lost: make(chan struct{})}
	go func() {
		defer close(s.lost)
		for range alive { //nolint:revive // until it is closed: the lease is lost or given back
		}
	}()
	return s, nil
}

// Lost is closed when the lease is not kept any more.
func (s *Session) Lost() <-chan struct{} { return s.lost }

// Close ends taking part: what is held falls free at once.
func (s *Session) Close(ctx context.Context) error {
	s.forget()
	ctx, cancel := limited(ctx)
	defer cancel()
	if _, err := s.client.etcd.Revoke(ctx, s.id); err != nil {
		return fmt.Errorf("giving a lease back: %w", err)
	}
	return nil
}

// Take takes a shard that nobody holds; false when somebody does.
func (s *Session) Take(ctx context.Context, shard int, name string) (revision int64, taken bool, err error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	key := s.client.shardKey(shard)
	resp, err := s.client.etcd.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, name, clientv3.WithLease(s.id))).Commit()
	if err != nil {
		return 0, false, fmt.Errorf("taking shard %d: %w", shard, err)
	}
	return resp.Header.Revision, resp.Succeeded, nil
}

// Drop gives a shard back that was taken with revision.
func (s *Session) Drop(ctx context.Context, shard int, revision int64) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	key := s.client.shardKey(shard)
	_, err := s.client.etcd.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", revision)).Then(clientv3.OpDelete(key)).Commit()
	if err != nil {
		return fmt.Errorf("giving shard %d back: %w", shard, err)
	}
	return nil
}

func (c *Client) shardKey(shard int) string { return c.key("shards", strconv.Itoa(shard)) }

// Shards returns who takes part, by name, and who holds what.
func (c *Client) Shards(ctx context.Context) (sharing []string, held map[int]Holding, err error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	resp, err := c.etcd.Txn(ctx).Then(
		clientv3.OpGet(c.key("sharing", ""), clientv3.WithPrefix(), clientv3.WithKeysOnly()),
		clientv3.OpGet(c.key("shards", ""), clientv3.WithPrefix()),
	).Commit()
	if err != nil {
		return nil, nil, fmt.Errorf("reading the shards: %w", err)
	}
	for _, kv := range resp.Responses[0].GetResponseRange().Kvs {
		sharing = append(sharing, path.Base(string(kv.Key)))
	}
	slices.Sort(sharing)
	held = map[int]Holding{}
	for _, kv := range resp.Responses[1].GetResponseRange().Kvs {
		if n, err := strconv.Atoi(path.Base(string(kv.Key))); err == nil {
			held[n] = Holding{Owner: string(kv.Value), Revision: kv.CreateRevision}
		}
	}
	return sharing, held, nil
}
