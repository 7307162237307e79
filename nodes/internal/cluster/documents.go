package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"time"

	"go.etcd.io/etcd/client/v3"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
)

// change is what is known of a document's last change; it lies beside the text and is written with it.
type change struct {
	Author    string    `json:"author"`
	ChangedAt time.Time `json:"changed_at"`
}

// Document reads one document; ErrNotFound when there is none.
func (c *Client) Document(ctx context.Context, typ string) (management.Document, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	ops := func(opts ...clientv3.OpOption) []clientv3.Op {
		return []clientv3.Op{clientv3.OpGet(c.key("configuration", typ), opts...), clientv3.OpGet(c.key("changes", typ), opts...)}
	}
	resp, err := c.remembered(ctx, ops)
	if err != nil {
		return management.Document{}, fmt.Errorf("reading %s: %w", typ, err)
	}
	texts := resp.Responses[0].GetResponseRange().Kvs
	if len(texts) == 0 {
		return management.Document{}, fmt.Errorf("reading %s: %w", typ, ErrNotFound)
	}
	d := management.Document{Type: typ, Text: string(texts[0].Value), Revision: texts[0].ModRevision}
	if kvs := resp.Responses[1].GetResponseRange().Kvs; len(kvs) > 0 {
		var last change
		if err := json.Unmarshal(kvs[0].Value, &last); err == nil && kvs[0].ModRevision == d.Revision {
			d.Author, d.ChangedAt = last.Author, last.ChangedAt
		}
	}
	return d, nil
}

// Documents reads all documents that are there.
func (c *Client) Documents(ctx context.Context) ([]management.Document, error) {
	docs, _, err := c.snapshot(ctx)
	return docs, err
}

func (c *Client) snapshot(ctx context.Context) ([]management.Document, int64, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	resp, err := c.etcd.Get(ctx, c.key("configuration", ""), clientv3.WithPrefix())
	if err != nil {
		return nil, 0, fmt.Errorf("reading the configuration: %w", err)
	}
	docs := make([]management.Document, 0, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		docs = append(docs, management.Document{Type: path.Base(string(kv.Key)), Text: string(kv.Value), Revision: kv.ModRevision})
	}
	return docs, resp.Header.Revision, nil
}

// PutDocument writes a document if its revision is still d.Revision (0: it must not exist), and returns it with its
// new revision; ErrConflict otherwise.
func (c *Client) PutDocument(ctx context.Context, d management.Document) (management.Document, error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	d.ChangedAt = time.Now().UTC().Truncate(time.Second)
	last, err := json.Marshal(change{d.Author, d.ChangedAt})
	if err != nil {
		return d, fmt.Errorf("writing %s: %w", d.Type, err)
	}
	kept, err := json.Marshal(management.Document{Type: d.Type, Text: d.Text, Author: d.Author, ChangedAt: d.ChangedAt})
	if err != nil {
		return d, fmt.Errorf("writing %s: %w", d.Type, err)
	}
	key := c.key("configuration", d.Type)
	resp, err := c.etcd.Txn(ctx).
		If(clientv3.Compare(clientv3.ModRevision(key), "=", d.Revision)).
		Then(clientv3.OpPut(key, d.Text), clientv3.OpPut(c.key("changes", d.Type), string(last)), clientv3.OpPut(c.historyKey(d.Type, d.Revision), string(kept))).
		Commit()
	if err != nil {
		return d, fmt.Errorf("writing %s: %w", d.Type, err)
	}
	if !resp.Succeeded {
		return d, fmt.Errorf("writing %s over revision %d: %w", d.Type, d.Revision, ErrConflict)
	}
	d.Revision = resp.Header.Revision
	c.forgetOld(ctx, d.Type)
	return d, nil
}

// Watch calls seen, from one goroutine, for every document that is there, and again for each that changes,
// until ctx ends; a deleted one has Revision 0. After the cluster was away only what changed is shown again. It
// returns nil.
func (c *Client) Watch(ctx context.Context, seen func(management.Document)) error {
	shown := map[string]int64{}
	for ctx.Err() == nil {
		err := c.follow(ctx, shown, seen)
		if ctx.Err() != nil {
			break
		}
		c.judge(err)
		c.admit(ctx, err)
		c.cfg.Log.Warn("watching the configuration", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(retryPause):
		}
	}
	return nil
}

// follow reads everything and then follows changes; it returns when the watch breaks.
func (c *Client) follow(ctx context.Context, shown map[string]int64, seen func(management.Document)) error {
	docs, revision, err := c.snapshot(ctx)
	if err != nil {
		return err
	}
	show := func(d management.Document) {
		if shown[d.Type] != d.Revision {
			shown[d.Type] = d.Revision
			seen(d)
		}
	}
	there := map[string]bool{}
	for _, d := range docs {
		there[d.Type] = true
		show(d)
	}
	for typ := range shown {
		if !there[typ] {
			show(management.Document{Type: typ})
		}
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for resp := range c.etcd.Watch(ctx, c.key("configuration", ""), clientv3.WithPrefix(), clientv3.WithRev(revision+1)) {
		if err := resp.Err(); err != nil {
			return fmt.Errorf("the watch ended: %w", err)
		}
		for _, ev := range resp.Events {
			d := management.Document{Type: path.Base(string(ev.Kv.Key))}
			if ev.Type == clientv3.EventTypePut {
				d.Text, d.Revision = string(ev.Kv.Value), ev.Kv.ModRevision
			}
			show(d)
		}
	}
	return fmt.Errorf("the watch ended: %w", context.Cause(ctx))
}
