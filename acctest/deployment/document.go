package deployment

import (
	"context"
	"fmt"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// PutDocument puts a configuration document in force, such as bgcf_json. Nodes apply it a moment later.
func (d *Deployment) PutDocument(ctx context.Context, kind, text string) error {
	access, err := d.access(ctx)
	if err != nil {
		return err
	}
	conf, err := access.TLS(config.Store)
	if err != nil {
		return err
	}
	client := management.NewClient(fmt.Sprintf("%s:%d", d.Address("store-1"), config.ManagementPort(config.Store)), conf)
	defer client.Close()
	old, err := client.Config(ctx, kind)
	if err != nil {
		return err
	}
	_, err = client.PutConfig(ctx, management.Document{Type: kind, Text: text, Revision: old.Revision})
	return err
}
