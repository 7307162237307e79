package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// syncCommand mends what backups of different times have left.
func (t *tool) syncCommand() *cobra.Command {
	var o numbersOptions
	var repair bool
	c := &cobra.Command{
		Use: "sync", Short: "Compare the portal's lines with the subscribers (exit code 1 if they do not agree), and mend that with --repair",
		Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error { return t.syncPortal(c.Context(), o, repair) },
	}
	c.Flags().BoolVar(&repair, "repair", false, "take lines without a subscriber from their accounts, and remove subscribers of free numbers")
	c.Flags().StringVar(&o.portal, "portal", "", "URL of the portal (default: of the deployment)")
	c.Flags().StringVar(&o.apiKey, "api-key", "", "API key of the portal (default: ellis_api_key of the deployment)")
	return c
}

func (t *tool) syncPortal(ctx context.Context, o numbersOptions, repair bool) error {
	client, err := t.portalClient(ctx, o)
	if err != nil {
		return err
	}
	found, err := client.Sync(ctx, repair)
	if err != nil {
		return err //nolint:wrapcheck // says what
	}
	for _, uri := range found.Lost {
		t.printf("lost: %s is a line without a subscriber\n", uri)
	}
	for _, uri := range found.Orphans {
		t.printf("orphan: %s is free and has a subscriber\n", uri)
	}
	wrong := len(found.Lost) + len(found.Orphans)
	switch {
	case wrong == 0:
		t.printf("%d lines, all with their subscribers\n", found.Lines)
		return nil
	case repair:
		t.printf("%d lines; %d differences repaired\n", found.Lines-len(found.Lost), wrong)
		return nil
	}
	return fmt.Errorf("%w: %d lines, %d differences; cw sync --repair mends them", errors.New("portal and subscribers do not agree"), found.Lines, wrong)
}
