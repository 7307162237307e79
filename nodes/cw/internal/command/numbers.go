package command

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/clearwater-ims/clearwater/nodes/api/portal"
)

type numbersOptions struct {
	portal, apiKey string
	start, realm   string
	count          int
	pstn           bool
}

func (t *tool) numbersCommand() *cobra.Command {
	var o numbersOptions
	create := &cobra.Command{Use: "create --start NUMBER --count COUNT [--pstn] [--realm DOMAIN]", Short: "Put a block of numbers into the portal's pool; may be repeated",
		Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error { return t.numbersCreate(c.Context(), o) }}
	create.Flags().StringVar(&o.start, "start", "", "first number, as digits")
	create.Flags().IntVar(&o.count, "count", 1, "how many")
	create.Flags().BoolVar(&o.pstn, "pstn", false, "the numbers can be reached from outside (+1...)")
	create.Flags().StringVar(&o.realm, "realm", "", "domain of the identities (default: the home domain)")
	list := &cobra.Command{Use: "list", Short: "List the blocks of the pool", Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return t.numbersList(c.Context(), o) }}
	remove := &cobra.Command{Use: "delete START", Short: "Take a block's free numbers out of the pool; lines in use stay", Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, a []string) error { return t.numbersDelete(c.Context(), a[0], o) }}
	for _, c := range []*cobra.Command{create, list, remove} {
		c.Flags().StringVar(&o.portal, "portal", "", "URL of the portal (default: of the deployment)")
		c.Flags().StringVar(&o.apiKey, "api-key", "", "API key of the portal (default: ellis_api_key of the deployment)")
	}
	return group("numbers", "Number pool of the portal", create, list, remove)
}

// portalClient finds the portal and its API key.
func (t *tool) portalClient(ctx context.Context, o numbersOptions) (*portal.Client, error) {
	if o.portal != "" && o.apiKey != "" {
		if t.deployment != "" || t.configDir != "" {
			if _, err := t.open(); err != nil { // for its name servers
				return nil, err
			}
		}
		return portal.New(o.portal, t.httpClient(), o.apiKey), nil
	}
	options, err := t.options(ctx)
	if err != nil {
		return nil, err
	}
	if o.apiKey == "" {
		o.apiKey = options.PortalAPIKey
	}
	if o.apiKey == "" {
		return nil, errors.New("the deployment has no ellis_api_key: set one with cw config, or give --api-key")
	}
	if o.portal == "" {
		o.portal = t.access.PortalURL(options.PortalHostname)
	}
	return portal.New(o.portal, t.httpClient(), o.apiKey), nil
}

func (t *tool) numbersCreate(ctx context.Context, o numbersOptions) error {
	if o.start == "" {
		return usageError{errors.New("--start is needed")}
	}
	c, err := t.portalClient(ctx, o)
	if err != nil {
		return err
	}
	b, err := c.PutNumberBlock(ctx, portal.NumberBlock{Start: o.start, Count: o.count, PSTN: o.pstn, Realm: o.realm})
	if err != nil {
		return err //nolint:wrapcheck // it names the block
	}
	t.printf("%s\n", b.Message)
	return nil
}

func (t *tool) numbersList(ctx context.Context, o numbersOptions) error {
	c, err := t.portalClient(ctx, o)
	if err != nil {
		return err
	}
	blocks, err := c.NumberBlocks(ctx)
	if err != nil {
		return err //nolint:wrapcheck // it says what it did
	}
	out := newTable("START", "COUNT", "PSTN", "REALM", "FREE", "IN USE")
	for _, b := range blocks {
		full, err := c.NumberBlock(ctx, b.Start)
		if err != nil {
			return err //nolint:wrapcheck // it names the block
		}
		out.add(b.Start, strconv.Itoa(b.Count), yesNo(b.PSTN), b.Realm, strconv.Itoa(full.Free), strconv.Itoa(full.InUse))
	}
	t.printf("%s", out)
	return nil
}

func (t *tool) numbersDelete(ctx context.Context, start string, o numbersOptions) error {
	c, err := t.portalClient(ctx, o)
	if err != nil {
		return err
	}
	if err := c.DeleteNumberBlock(ctx, start); err != nil {
		return err //nolint:wrapcheck // it names the block
	}
	t.printf("Deleted block %s\n", start)
	return nil
}
