package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
)

const (
	kept   = 4 // backups, as the manual has it
	suffix = ".cwbackup"
)

// Folder keeps a node's backups, the newest four.
type Folder struct {
	Dir    string
	Source *Source
	Log    *slog.Logger
	// Stagger is how long after midnight (UTC) this node takes its daily backup, so that nodes do not do it all at once.
	Stagger time.Duration

	mu sync.Mutex // one backup or restore at a time
}

var idPattern = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z$`)

// Create takes a backup now and drops the oldest beyond those that are kept.
func (f *Folder) Create(ctx context.Context) (management.Backup, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return management.Backup{}, fmt.Errorf("preparing the folder of backups: %w", err)
	}
	out, err := os.CreateTemp(f.Dir, ".new-*")
	if err != nil {
		return management.Backup{}, fmt.Errorf("preparing the backup: %w", err)
	}
	defer func() { _ = os.Remove(out.Name()) }()
	began := time.Now()
	rows, err := f.Source.Dump(ctx, out)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return management.Backup{}, fmt.Errorf("taking a backup: %w", err)
	}
	b := management.Backup{ID: f.Source.Now().UTC().Format("20060102T150405Z"), Rows: rows}
	if err := os.Rename(out.Name(), f.path(b.ID)); err != nil {
		return management.Backup{}, fmt.Errorf("keeping the backup: %w", err)
	}
	if info, err := os.Stat(f.path(b.ID)); err == nil {
		b.Size = info.Size()
	}
	f.Log.Info("took a backup", "id", b.ID, "rows", rows, "bytes", b.Size, "seconds", time.Since(began).Seconds())
	return b, f.prune()
}

func (f *Folder) path(id string) string { return filepath.Join(f.Dir, id+suffix) }

func (f *Folder) prune() error {
	list, err := f.List()
	if err != nil {
		return err
	}
	for _, b := range list[min(kept, len(list)):] {
		if err := os.Remove(f.path(b.ID)); err != nil {
			return fmt.Errorf("dropping an old backup: %w", err)
		}
	}
	return nil
}

// List returns the backups, the newest first.
func (f *Folder) List() ([]management.Backup, error) {
	entries, err := os.ReadDir(f.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listing backups: %w", err)
	}
	out := []management.Backup{}
	for _, e := range entries {
		id, ours := strings.CutSuffix(e.Name(), suffix)
		info, err := e.Info()
		if !ours || !idPattern.MatchString(id) || err != nil {
			continue
		}
		out = append(out, management.Backup{ID: id, Size: info.Size()})
	}
	slices.SortFunc(out, func(a, b management.Backup) int { return strings.Compare(b.ID, a.ID) })
	return out, nil
}

// Open reads a backup; os.ErrNotExist when there is none of that id.
func (f *Folder) Open(id string) (io.ReadCloser, error) {
	if !idPattern.MatchString(id) {
		return nil, fmt.Errorf("backup %q: %w", id, os.ErrNotExist)
	}
	in, err := os.Open(f.path(id))
	if err != nil {
		return nil, fmt.Errorf("opening backup %s: %w", id, err)
	}
	return in, nil
}

// Take keeps a backup that was brought from elsewhere for the time of a restore, and returns its path.
func (f *Folder) Take(from io.Reader) (path string, err error) {
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return "", fmt.Errorf("preparing the folder of backups: %w", err)
	}
	out, err := os.CreateTemp(f.Dir, ".brought-*")
	if err != nil {
		return "", fmt.Errorf("taking the backup: %w", err)
	}
	_, err = io.Copy(out, from)
	if err = errors.Join(err, out.Close()); err != nil {
		_ = os.Remove(out.Name())
		return "", fmt.Errorf("taking the backup: %w", err)
	}
	return out.Name(), nil
}

// Restore puts a backup back.
func (f *Folder) Restore(ctx context.Context, open func() (io.ReadCloser, error), only []string, author string) (Restored, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	done, err := f.Source.Load(ctx, open, only, author)
	f.Log.Warn("restored a backup", "by", author, "only", only, "rows", done.Rows, "removed", done.Removed, "documents", done.Documents, "error", err)
	return done, err
}

// Run takes a backup each night until ctx ends.
func (f *Folder) Run(ctx context.Context) error {
	for {
		timer := time.NewTimer(time.Until(nightly(f.Source.Now(), f.Stagger)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if _, err := f.Create(ctx); err != nil && ctx.Err() == nil {
			f.Log.Error("the nightly backup", "error", err)
		}
	}
}

// nightly is the next midnight (UTC) plus stagger after now.
func nightly(now time.Time, stagger time.Duration) time.Time {
	at := now.UTC().Truncate(24 * time.Hour).Add(stagger)
	if !at.After(now) {
		at = at.Add(24 * time.Hour)
	}
	return at
}
