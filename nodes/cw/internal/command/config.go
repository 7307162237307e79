package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

const (
	maxDocument = 1 << 20             // bytes
	maxCopyAge  = 30 * 24 * time.Hour // older local copies are removed
)

// documentTypes lists what can be configured, in the manual's order.
func documentTypes() []string { return append([]string{config.SharedFile}, config.DocumentTypes()...) }

// fileName is the name of a document's local copy: bgcf.json, shared_ifcs.xml, shared_config.
func fileName(typ string) string {
	if base, ok := strings.CutSuffix(typ, "_json"); ok {
		return base + ".json"
	}
	if strings.HasSuffix(typ, "_ifcs") {
		return typ + ".xml"
	}
	return typ
}

type configOptions struct {
	autoconfirm, force bool
	dir                string
	wait               time.Duration
}

func (t *tool) configCommand() *cobra.Command {
	var o configOptions
	typed := args(func(_ *cobra.Command, given []string) error {
		if len(given) != 1 || !slices.Contains(documentTypes(), given[0]) {
			return fmt.Errorf("give one type of %s", strings.Join(documentTypes(), ", "))
		}
		return nil
	})
	download := &cobra.Command{Use: "download TYPE", Short: "Fetch a document for editing", Args: typed, RunE: func(c *cobra.Command, a []string) error {
		return t.download(c.Context(), a[0], o)
	}}
	upload := &cobra.Command{Use: "upload TYPE", Short: "Put an edited document in force", Args: typed, RunE: func(c *cobra.Command, a []string) error {
		return t.upload(c.Context(), a[0], o)
	}}
	diff := &cobra.Command{Use: "diff TYPE", Short: "Show how the local copy differs from what is in force (exit code 1 if it does)", Args: typed, RunE: func(c *cobra.Command, a []string) error {
		return t.diff(c.Context(), a[0], o)
	}}
	show := &cobra.Command{Use: "show TYPE", Short: "Print a document as it is in force", Args: typed, RunE: func(c *cobra.Command, a []string) error {
		doc, err := t.fetch(c.Context(), a[0])
		if err == nil {
			t.printf("%s", doc.Text)
		}
		return err
	}}
	remove := &cobra.Command{Use: "remove TYPE", Short: "Take a document out of force", Args: typed, RunE: func(c *cobra.Command, a []string) error {
		return t.removeDocument(c.Context(), a[0], o)
	}}
	list := &cobra.Command{Use: "list", Short: "List the documents, their revisions and authors", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		return t.list(c.Context())
	}}
	sync := &cobra.Command{Use: "sync", Short: "Show which revision of each document is in force on each node (exit code 1 unless it is the newest everywhere)",
		Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error { return t.sync(c.Context(), o.wait) }}
	sync.Flags().DurationVar(&o.wait, "wait", 0, "wait so long for the nodes to take the newest revisions over, such as 30s")
	for _, c := range []*cobra.Command{download, upload, remove} {
		c.Flags().BoolVar(&o.autoconfirm, "autoconfirm", false, "do not ask")
	}
	upload.Flags().BoolVar(&o.force, "force", false, "upload an empty document too (root only); what the store refuses stays refused")
	for _, c := range []*cobra.Command{download, upload, diff} {
		c.Flags().StringVar(&o.dir, "dir", "", "folder of local copies (default ~/clearwater-config-manager/<user>)")
	}
	return group("config", "Configuration of the deployment", append(t.historyCommands(typed), list, show, download, upload, remove, diff, sync)...)
}

// folder is where local copies are; old ones are removed.
func (t *tool) folder(o configOptions) (string, error) {
	dir := o.dir
	if dir == "" {
		home := t.Getenv("HOME")
		if home == "" {
			return "", errors.New("HOME is not set: give --dir")
		}
		dir = filepath.Join(home, "clearwater-config-manager", t.operatorName())
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("folder of local copies: %w", err)
	}
	for _, typ := range documentTypes() {
		path := filepath.Join(dir, fileName(typ))
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > maxCopyAge {
			t.warnf("removing %s: it is older than 30 days\n", path)
			removeCopy(path)
		}
	}
	return dir, nil
}

// revisionFile holds the revision that a local copy was made from.
func revisionFile(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".revision")
}

func removeCopy(path string) {
	_ = os.Remove(path)
	_ = os.Remove(revisionFile(path))
}

func (t *tool) fetch(ctx context.Context, typ string) (*management.Document, error) {
	return store(ctx, t, func(ctx context.Context, c *management.Client) (*management.Document, error) {
		return c.Config(ctx, typ)
	})
}

func (t *tool) download(ctx context.Context, typ string, o configOptions) error {
	dir, err := t.folder(o)
	if err != nil {
		return err
	}
	doc, err := t.fetch(ctx, typ)
	if err != nil {
		return fmt.Errorf("downloading %s: %w", typ, err)
	}
	path := filepath.Join(dir, fileName(typ))
	if old, err := os.ReadFile(path); err == nil && string(old) != doc.Text && !o.autoconfirm &&
		!t.confirm(fmt.Sprintf("%s exists and differs from what is in force. Overwrite it?", path)) {
		return errors.New("kept the local copy")
	}
	if err := os.WriteFile(path, []byte(doc.Text), 0o600); err != nil {
		return fmt.Errorf("writing the local copy: %w", err)
	}
	if err := os.WriteFile(revisionFile(path), []byte(strconv.FormatInt(doc.Revision, 10)+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing the local copy: %w", err)
	}
	t.printf("%s (revision %d) is at %s\n", typ, doc.Revision, path)
	return nil
}

// local reads a local copy and the revision that it was made from.
func (t *tool) local(typ string, o configOptions) (path, text string, revision int64, err error) {
	dir, err := t.folder(o)
	if err != nil {
		return "", "", 0, err
	}
	path = filepath.Join(dir, fileName(typ))
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", 0, fmt.Errorf("there is no local copy %s: run cw config download %s first", path, typ)
	}
	if err != nil {
		return "", "", 0, fmt.Errorf("reading the local copy: %w", err)
	}
	if info.Size() > maxDocument {
		return "", "", 0, fmt.Errorf("%s has %d bytes, at most %d are allowed", path, info.Size(), maxDocument)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", "", 0, fmt.Errorf("reading the local copy: %w", err)
	}
	mark, err := os.ReadFile(revisionFile(path))
	if err != nil {
		return "", "", 0, fmt.Errorf("%s was not made by cw config download: its revision is unknown; download again", path)
	}
	revision, err = strconv.ParseInt(strings.TrimSpace(string(mark)), 10, 64)
	if err != nil {
		return "", "", 0, fmt.Errorf("%s is damaged: download again", revisionFile(path))
	}
	return path, string(content), revision, nil
}

func (t *tool) diff(ctx context.Context, typ string, o configOptions) error {
	path, text, _, err := t.local(typ, o)
	if err != nil {
		return err
	}
	doc, err := t.fetch(ctx, typ)
	if err != nil {
		return fmt.Errorf("comparing %s: %w", typ, err)
	}
	if doc.Text == text {
		t.printf("%s does not differ from what is in force\n", path)
		return nil
	}
	t.printf("%s", unified(typ+" in force", path, doc.Text, text))
	return errSilent
}

func (t *tool) upload(ctx context.Context, typ string, o configOptions) error {
	path, text, revision, err := t.local(typ, o)
	if err != nil {
		return err
	}
	if o.force && os.Geteuid() != 0 {
		return usageError{errors.New("--force is for root")}
	}
	doc, err := t.fetch(ctx, typ)
	if err != nil {
		return fmt.Errorf("uploading %s: %w", typ, err)
	}
	if doc.Revision != revision {
		return changed(typ, revision, doc)
	}
	if doc.Text == text {
		t.printf("%s does not differ from what is in force: nothing to do\n", path)
		removeCopy(path)
		return nil
	}
	if strings.TrimSpace(text) == "" && !o.force {
		return fmt.Errorf("%s is empty: that would take %s out of force (--force does)", path, typ)
	}
	t.printf("%s", unified(typ+" in force", path, doc.Text, text))
	if !o.autoconfirm && !t.confirm("Put this in force?") {
		return errors.New("nothing was changed")
	}
	stored, err := store(ctx, t, func(ctx context.Context, c *management.Client) (*management.Document, error) {
		return c.PutConfig(ctx, management.Document{Type: typ, Text: text, Revision: revision, Author: t.operatorName()})
	})
	switch management.StatusOf(err) {
	case http.StatusConflict:
		return changed(typ, revision, nil)
	case http.StatusUnprocessableEntity:
		var refusal *management.Error
		errors.As(err, &refusal)
		return fmt.Errorf("%s does not validate, nothing was changed: %s", path, refusal.Message)
	}
	if err != nil {
		return fmt.Errorf("uploading %s: %w", typ, err)
	}
	for _, warning := range stored.Warnings {
		t.warnf("warning: %s\n", warning)
	}
	removeCopy(path)
	t.printf("%s is now at revision %d; cw config sync shows the nodes taking it over\n", typ, stored.Revision)
	return nil
}

// changed says that somebody else was faster.
func changed(typ string, revision int64, now *management.Document) error {
	by := ""
	if now != nil && now.Author != "" {
		by = fmt.Sprintf(" by %s at %s", now.Author, now.ChangedAt.Format(time.RFC3339))
	}
	return fmt.Errorf("%s was changed%s since it was downloaded (revision %d): download it again and repeat your edit", typ, by, revision)
}

func (t *tool) list(ctx context.Context) error {
	table := newTable("TYPE", "REVISION", "CHANGED", "BY")
	for _, typ := range documentTypes() {
		doc, err := t.fetch(ctx, typ)
		if err != nil {
			return fmt.Errorf("listing: %w", err)
		}
		when := "-"
		if !doc.ChangedAt.IsZero() {
			when = doc.ChangedAt.Format(time.RFC3339)
		}
		table.add(typ, strconv.FormatInt(doc.Revision, 10), when, orDash(doc.Author))
	}
	t.printf("%s", table)
	return nil
}

// sync compares what is in force on the nodes with the newest revisions, again and again for up to wait.
func (t *tool) sync(ctx context.Context, wait time.Duration) error {
	deadline := time.After(wait)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		table, behind, err := t.revisions(ctx)
		if err != nil {
			return err
		}
		if behind == 0 {
			t.printf("%severy node has the newest configuration in force\n", table)
			return nil
		}
		if wait > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err() //nolint:wrapcheck // interrupted
			case <-tick.C:
				continue
			case <-deadline:
			}
		}
		t.printf("%s%d of the revisions on nodes are not the newest\n", table, behind)
		return errSilent
	}
}

// revisions tells for each node and document what is in force, and how many of these are not the newest.
func (t *tool) revisions(ctx context.Context) (*table, int, error) {
	newest := map[string]int64{}
	for _, typ := range documentTypes() {
		doc, err := t.fetch(ctx, typ)
		if err != nil {
			return nil, 0, fmt.Errorf("reading revisions: %w", err)
		}
		if doc.Revision != 0 {
			newest[typ] = doc.Revision
		}
	}
	cluster, err := t.cluster(ctx)
	if err != nil {
		return nil, 0, err
	}
	out, behind := newTable("NODE", "STATE", "TYPE", "REVISION", "NEWEST", "IN SYNC"), 0
	for _, node := range cluster.Nodes {
		for _, typ := range documentTypes() {
			want, ok := newest[typ]
			if !ok {
				continue
			}
			current := node.Applied[typ] == want
			if !current {
				behind++
			}
			out.add(node.Name, string(node.State), typ, strconv.FormatInt(node.Applied[typ], 10), strconv.FormatInt(want, 10), yesNo(current))
		}
		if len(node.Restart) > 0 {
			behind++
			out.add(node.Name, string(node.State), strings.Join(node.Restart, ","), "-", "-", "after its restart")
		}
	}
	return out, behind, nil
}
