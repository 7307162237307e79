package service

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

func newTestLive(t *testing.T) (*live, string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "local_config"), "local_ip=127.0.0.1\npublic_ip=127.0.0.1\npublic_hostname=a.example.com\nnode_role=edge\ndeployment_id=d\ndns_zone=example.com\n")
	o, _, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return newLive(dir, o, slog.New(slog.DiscardHandler)), dir
}

func TestSharedConfigurationIsLiveAndCached(t *testing.T) {
	l, dir := newTestLive(t)
	var seen []time.Duration
	l.onOptions(func(o *config.Options) { seen = append(seen, o.RegMaxExpires) })
	l.apply(management.Document{Type: "shared_config", Text: "home_domain=example.com\nreg_max_expires=600\n", Revision: 7})
	select {
	case <-l.fresh:
	default:
		t.Error("a sent configuration does not count as fresh")
	}
	l.apply(management.Document{Type: "shared_config", Text: "home_domain=example.com\nreg_max_expires=never\n", Revision: 8})
	if want := []time.Duration{300 * time.Second, 600 * time.Second}; !slices.Equal(seen, want) {
		t.Errorf("subscribers saw %v, want %v", seen, want)
	}
	if got := l.revisions()["shared_config"]; got != 7 {
		t.Errorf("revision %d in force, want 7: the other is refused", got)
	}
	o, _, err := config.Load(dir)
	if err != nil || o.RegMaxExpires != 600*time.Second {
		t.Errorf("the cached copy: %v, %v", o, err)
	}
	write(t, filepath.Join(dir, "user_settings"), "log_level=5\n")
	if err := l.reload(); err != nil || l.options.Load().LogLevel != 5 || l.options.Load().RegMaxExpires != 600*time.Second {
		t.Errorf("after a reload: %+v, %v", l.options.Load(), err)
	}
}

func TestDocumentsAreLiveAndCached(t *testing.T) {
	l, dir := newTestLive(t)
	var seen []string
	l.onDocument("bgcf_json", func(text string) { seen = append(seen, text) })
	l.apply(management.Document{Type: "bgcf_json", Text: "one", Revision: 1})
	l.apply(management.Document{Type: "bgcf_json", Text: "one", Revision: 2})
	l.apply(management.Document{Type: "bgcf_json"})
	l.apply(management.Document{Type: "bgcf_json", Text: "two", Revision: 4})
	if want := []string{"one", "", "two"}; !slices.Equal(seen, want) {
		t.Errorf("got %q, want %q", seen, want)
	}
	later := newLive(dir, l.options.Load(), l.log)
	seen = nil
	later.onDocument("bgcf_json", func(text string) { seen = append(seen, text) })
	if !slices.Equal(seen, []string{"two"}) {
		t.Errorf("after a restart without a cluster: %q", seen)
	}
	if info, err := os.Stat(filepath.Join(dir, "bgcf_json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("cached file: %v %v", info, err)
	}
}

// holder drains when release is closed.
type holder struct{ release chan struct{} }

func (h holder) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (h holder) Drain(ctx context.Context) error {
	select {
	case <-h.release:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDrains(slog.New(slog.DiscardHandler))
		<-d.order(time.Minute)
		if ordered, drained, err := d.state(); !ordered || !drained || err != nil {
			t.Errorf("a node that serves nothing: %v %v %v", ordered, drained, err)
		}
		h := holder{make(chan struct{})}
		d.started(h)
		time.Sleep(30 * time.Second) // fake time
		if _, drained, _ := d.state(); drained {
			t.Error("the role was not drained when it started later")
		}
		time.Sleep(31 * time.Second)
		if _, drained, err := d.state(); drained || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the deadline: %v %v", drained, err)
		}
		if err := d.undo(); !errors.Is(err, errCannotResume) {
			t.Errorf("a role that cannot resume: %v", err)
		}
		done := d.order(0)
		time.Sleep(24 * time.Hour)
		close(h.release)
		<-done
		if _, drained, err := d.state(); !drained || err != nil {
			t.Errorf("without a deadline: %v %v", drained, err)
		}
	})
}
