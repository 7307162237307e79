package command

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// historyCommands show earlier states of a document and go back to one.
func (t *tool) historyCommands(typed cobra.PositionalArgs) []*cobra.Command {
	var revision int64
	history := &cobra.Command{Use: "history TYPE", Short: "List the changes of a document, or show one with --revision", Args: typed, RunE: func(c *cobra.Command, a []string) error {
		if revision != 0 {
			return t.showChange(c.Context(), a[0], revision)
		}
		return t.history(c.Context(), a[0])
	}}
	history.Flags().Int64Var(&revision, "revision", 0, "show what this change did")
	var o configOptions
	rollback := &cobra.Command{
		Use: "rollback TYPE REVISION", Short: "Put a document in force again as it was at a revision",
		Args: args(func(c *cobra.Command, given []string) error {
			if len(given) != 2 {
				return errors.New("give a type and a revision")
			}
			if _, err := strconv.ParseInt(given[1], 10, 64); err != nil {
				return fmt.Errorf("revision %q is not a number", given[1])
			}
			return typed(c, given[:1])
		}),
		RunE: func(c *cobra.Command, a []string) error {
			to, err := strconv.ParseInt(a[1], 10, 64)
			if err != nil {
				return err //nolint:wrapcheck // checked above
			}
			return t.rollback(c.Context(), a[0], to, o)
		},
	}
	rollback.Flags().BoolVar(&o.autoconfirm, "autoconfirm", false, "do not ask")
	return []*cobra.Command{history, rollback}
}

func (t *tool) changes(ctx context.Context, typ string) ([]management.Document, error) {
	list, err := store(ctx, t, func(ctx context.Context, c *management.Client) ([]management.Document, error) {
		return c.ConfigHistory(ctx, typ)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the history of %s: %w", typ, err)
	}
	return list, nil
}

func (t *tool) history(ctx context.Context, typ string) error {
	list, err := t.changes(ctx, typ)
	if err != nil {
		return err
	}
	table := newTable("REVISION", "CHANGED", "BY")
	for _, d := range list {
		table.add(strconv.FormatInt(d.Revision, 10), d.ChangedAt.Format(time.RFC3339), orDash(d.Author))
	}
	t.printf("%s", table)
	return nil
}

func (t *tool) at(ctx context.Context, typ string, revision int64) (*management.Document, error) {
	d, err := store(ctx, t, func(ctx context.Context, c *management.Client) (*management.Document, error) {
		return c.ConfigAt(ctx, typ, revision)
	})
	if management.StatusOf(err) == http.StatusNotFound {
		return nil, fmt.Errorf("no change of %s at revision %d is kept: cw config history %s lists those that are", typ, revision, typ)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the history of %s: %w", typ, err)
	}
	return d, nil
}

// showChange is the difference to the change before.
func (t *tool) showChange(ctx context.Context, typ string, revision int64) error {
	now, err := t.at(ctx, typ, revision)
	if err != nil {
		return err
	}
	list, err := t.changes(ctx, typ)
	if err != nil {
		return err
	}
	before := &management.Document{}
	for _, d := range list { // the last first
		if d.Revision < revision {
			if before, err = t.at(ctx, typ, d.Revision); err != nil {
				return err
			}
			break
		}
	}
	t.printf("%s at revision %d, by %s at %s\n%s", typ, revision, orDash(now.Author), now.ChangedAt.Format(time.RFC3339),
		unified(fmt.Sprintf("revision %d", before.Revision), fmt.Sprintf("revision %d", revision), before.Text, now.Text))
	return nil
}

func (t *tool) rollback(ctx context.Context, typ string, revision int64, o configOptions) error {
	old, err := t.at(ctx, typ, revision)
	if err != nil {
		return err
	}
	now, err := t.fetch(ctx, typ)
	if err != nil {
		return fmt.Errorf("rolling %s back: %w", typ, err)
	}
	if now.Text == old.Text {
		t.printf("%s is as it was at revision %d: nothing to do\n", typ, revision)
		return nil
	}
	t.printf("%s", unified(typ+" in force", fmt.Sprintf("%s at revision %d", typ, revision), now.Text, old.Text))
	if !o.autoconfirm && !t.confirm("Put this in force?") {
		return errors.New("nothing was changed")
	}
	stored, err := store(ctx, t, func(ctx context.Context, c *management.Client) (*management.Document, error) {
		return c.PutConfig(ctx, management.Document{Type: typ, Text: old.Text, Revision: now.Revision, Author: t.operatorName()})
	})
	switch management.StatusOf(err) {
	case http.StatusConflict:
		return fmt.Errorf("%s was changed meanwhile: look at it again", typ)
	case http.StatusUnprocessableEntity:
		var refusal *management.Error
		errors.As(err, &refusal)
		return fmt.Errorf("%s as it was at revision %d does not validate any more, nothing was changed: %s", typ, revision, refusal.Message)
	}
	if err != nil {
		return fmt.Errorf("rolling %s back: %w", typ, err)
	}
	t.printf("%s is now at revision %d, with the text of revision %d; cw config sync shows the nodes taking it over\n", typ, stored.Revision, revision)
	return nil
}

// removeDocument puts an empty text in force, which is none.
func (t *tool) removeDocument(ctx context.Context, typ string, o configOptions) error {
	if typ == config.SharedFile {
		return usageError{errors.New("a deployment cannot be without its shared_config")}
	}
	now, err := t.fetch(ctx, typ)
	if err != nil {
		return fmt.Errorf("removing %s: %w", typ, err)
	}
	if now.Text == "" {
		t.printf("there is no %s: nothing to do\n", typ)
		return nil
	}
	t.printf("%s", unified(typ+" in force", "nothing", now.Text, ""))
	if !o.autoconfirm && !t.confirm("Take this out of force?") {
		return errors.New("nothing was changed")
	}
	stored, err := store(ctx, t, func(ctx context.Context, c *management.Client) (*management.Document, error) {
		return c.PutConfig(ctx, management.Document{Type: typ, Revision: now.Revision, Author: t.operatorName()})
	})
	if management.StatusOf(err) == http.StatusConflict {
		return fmt.Errorf("%s was changed meanwhile: look at it again", typ)
	}
	if err != nil {
		return fmt.Errorf("removing %s: %w", typ, err)
	}
	t.printf("%s is out of force since revision %d; cw config rollback brings it back\n", typ, stored.Revision)
	return nil
}
