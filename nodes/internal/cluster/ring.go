package cluster

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/client/v3"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

// FoundRing says who founds the site's Cassandra ring: node, unless somebody else was first; and whether the ring is
// there. There is one founder for the life of the cluster, and it founds once, so no second ring begins where the first
// is only away.
func (c *Client) FoundRing(ctx context.Context, node string) (founder string, there bool, err error) {
	ctx, cancel := limited(ctx)
	defer cancel()
	key, formed := c.key("cassandra", "founder"), c.key("cassandra", "ring")
	resp, err := c.etcd.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, node)).Else(clientv3.OpGet(key), clientv3.OpGet(formed, clientv3.WithCountOnly())).Commit()
	if err != nil {
		return "", false, fmt.Errorf("asking who founded the Cassandra ring: %w", err)
	}
	if resp.Succeeded {
		return node, false, nil
	}
	return string(resp.Responses[0].GetResponseRange().Kvs[0].Value), resp.Responses[1].GetResponseRange().Count > 0, nil
}

// RingFounded notes that the ring is there.
func (c *Client) RingFounded(ctx context.Context) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	if _, err := c.etcd.Put(ctx, c.key("cassandra", "ring"), ""); err != nil {
		return fmt.Errorf("noting that the Cassandra ring is there: %w", err)
	}
	return nil
}

// StoreAddresses lists the addresses of the site's other store nodes.
func (c *Client) StoreAddresses(ctx context.Context, but string) ([]string, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range nodes {
		if n.Role == string(config.Store) && n.Name != but && n.Address != "" {
			out = append(out, n.Address)
		}
	}
	return out, nil
}
