package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	"go.etcd.io/etcd/client/v3"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
)

// StoredToken is a join token as the cluster keeps it.
type StoredToken struct {
	management.Token
	UsedBy string `json:"used_by,omitempty"` // digest of the key that joined with it

	revision int64
}

// PutToken sets the join token of a node; an earlier one of that node is void.
func (c *Client) PutToken(ctx context.Context, node string, t management.Token) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	text, err := json.Marshal(StoredToken{Token: t})
	if err != nil {
		return fmt.Errorf("writing the token of %s: %w", node, err)
	}
	if _, err := c.etcd.Put(ctx, c.key("tokens", node), string(text)); err != nil {
		return fmt.Errorf("writing the token of %s: %w", node, err)
	}
	return nil
}

// Token reads the join token of a node; ErrNotFound when it has none.
func (c *Client) Token(ctx context.Context, node string) (StoredToken, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	resp, err := c.etcd.Get(ctx, c.key("tokens", node))
	if err != nil {
		return StoredToken{}, fmt.Errorf("reading the token of %s: %w", node, err)
	}
	if len(resp.Kvs) == 0 {
		return StoredToken{}, fmt.Errorf("reading the token of %s: %w", node, ErrNotFound)
	}
	t := StoredToken{revision: resp.Kvs[0].ModRevision}
	if err := json.Unmarshal(resp.Kvs[0].Value, &t); err != nil {
		return StoredToken{}, fmt.Errorf("reading the token of %s: %w", node, err)
	}
	return t, nil
}

// UseToken binds a token that was read to the key that joins with it; ErrConflict when another key was faster.
func (c *Client) UseToken(ctx context.Context, node string, t StoredToken, usedBy string) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	t.UsedBy = usedBy
	text, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("using the token of %s: %w", node, err)
	}
	key := c.key("tokens", node)
	resp, err := c.etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", t.revision)).
		Then(clientv3.OpPut(key, string(text))).Commit()
	if err != nil {
		return fmt.Errorf("using the token of %s: %w", node, err)
	}
	if !resp.Succeeded {
		return fmt.Errorf("using the token of %s: %w", node, ErrConflict)
	}
	return nil
}
