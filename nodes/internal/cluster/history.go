package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	"go.etcd.io/etcd/client/v3"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
)

// keptChanges is how many changes of each document are kept.
const keptChanges = 50

// historyKey is where a change over an old revision is kept; one compare-and-swap can succeed over each.
func (c *Client) historyKey(typ string, over int64) string {
	return c.key("history", fmt.Sprintf("%s/%020d", typ, over))
}

// History returns the changes of a document, the last first.
func (c *Client) History(ctx context.Context, typ string) ([]management.Document, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	resp, err := c.etcd.Get(ctx, c.key("history", typ+"/"), clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil {
		return nil, fmt.Errorf("reading the history of %s: %w", typ, err)
	}
	out := make([]management.Document, 0, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		var d management.Document
		if err := json.Unmarshal(kv.Value, &d); err != nil {
			return nil, fmt.Errorf("reading the history of %s: %w", typ, err)
		}
		d.Revision = kv.ModRevision // that of the document itself: both were written at once
		out = append(out, d)
	}
	return out, nil
}

// forgetOld drops changes beyond those that are kept. That it cannot now is no reason to fail: the next change tries again.
func (c *Client) forgetOld(ctx context.Context, typ string) {
	prefix := c.key("history", typ+"/")
	resp, err := c.etcd.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil || len(resp.Kvs) <= keptChanges {
		return
	}
	_, _ = c.etcd.Delete(ctx, prefix, clientv3.WithRange(string(resp.Kvs[keptChanges-1].Key)))
}

// RestartState is how far a rolling restart is.
type RestartState struct {
	management.Restarts

	Cleared int64 `json:"cleared,omitempty"` // changes of shared_config up to this revision restart nobody

	revision int64
}

// RestartState reads it.
func (c *Client) RestartState(ctx context.Context) (RestartState, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	resp, err := c.etcd.Get(ctx, c.key("restarts", "state"))
	if err != nil {
		return RestartState{}, fmt.Errorf("reading the restart queue: %w", err)
	}
	var s RestartState
	if len(resp.Kvs) > 0 {
		if err := json.Unmarshal(resp.Kvs[0].Value, &s); err != nil {
			return s, fmt.Errorf("reading the restart queue: %w", err)
		}
		s.revision = resp.Kvs[0].ModRevision
	}
	return s, nil
}

// PutRestartState writes what was read and changed; ErrConflict when somebody else was faster.
func (c *Client) PutRestartState(ctx context.Context, s RestartState) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("writing the restart queue: %w", err)
	}
	key := c.key("restarts", "state")
	resp, err := c.etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", s.revision)).Then(clientv3.OpPut(key, string(text))).Commit()
	if err != nil {
		return fmt.Errorf("writing the restart queue: %w", err)
	}
	if !resp.Succeeded {
		return fmt.Errorf("writing the restart queue: %w", ErrConflict)
	}
	return nil
}
