package cluster

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/client/v3"
)

const (
	lockTTL   = 10 // seconds of silence after which a lock is free
	lockRetry = 500 * time.Millisecond
)

// Lock waits for the lock of that name. Its holder has lost it when the context that is returned ends.
func (c *Client) Lock(ctx context.Context, name string) (held context.Context, unlock func(), err error) {
	for {
		held, unlock, err := c.tryLock(ctx, name)
		if err != nil {
			c.judge(err)
			c.cfg.Log.Info("waiting for a lock", "lock", name, "error", err)
		}
		if held != nil {
			return held, unlock, nil
		}
		select {
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("waiting for the lock %s: %w", name, ctx.Err())
		case <-time.After(lockRetry):
		}
	}
}

// tryLock takes the lock if it is free; held is nil otherwise.
func (c *Client) tryLock(ctx context.Context, name string) (held context.Context, unlock func(), err error) {
	first, cancel := limited(ctx)
	defer cancel()
	key := c.key("locks", name)
	if resp, err := c.etcd.Get(first, key, clientv3.WithCountOnly()); err != nil || resp.Count > 0 {
		return nil, nil, err //nolint:wrapcheck // the caller says what was being done
	}
	lease, err := c.etcd.Grant(first, lockTTL)
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // as above
	}
	give := func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, _ = c.etcd.Revoke(last, lease.ID) // it lapses by itself if this does not arrive
	}
	resp, err := c.etcd.Txn(first).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, "", clientv3.WithLease(lease.ID))).Commit()
	if err != nil || !resp.Succeeded {
		give()
		return nil, nil, err //nolint:wrapcheck // as above
	}
	held, lose := context.WithCancel(ctx)
	alive, err := c.etcd.KeepAlive(held, lease.ID)
	if err != nil {
		lose()
		give()
		return nil, nil, err //nolint:wrapcheck // as above
	}
	go func() {
		defer lose()
		for range alive { //nolint:revive // until it is closed: the lease is lost or the lock is given back
		}
	}()
	return held, func() { lose(); give() }, nil
}
