package service

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// live holds the options and documents in force. What the cluster sends is cached in the configuration folder, so
// that a node can start while the cluster is away.
type live struct {
	dir     string
	log     *slog.Logger
	options atomic.Pointer[config.Options]
	begun   atomic.Pointer[config.Options] // with which the role was started; nil before
	fresh   chan struct{}                  // closed when the cluster has sent a shared configuration

	mu        sync.Mutex // held while subscribers run
	isFresh   bool
	texts     map[string]string
	applied   map[string]int64
	onOption  []func(*config.Options)
	onDoc     map[string][]func(string)
	appliedMu sync.Mutex // guards applied alone, so that status never waits for a subscriber
}

func newLive(dir string, o *config.Options, log *slog.Logger) *live {
	l := &live{dir: dir, log: log, fresh: make(chan struct{}), texts: map[string]string{}, applied: map[string]int64{}, onDoc: map[string][]func(string){}}
	l.options.Store(o)
	for _, typ := range config.DocumentTypes() {
		if text, err := os.ReadFile(filepath.Join(dir, typ)); err == nil {
			l.texts[typ] = string(text)
		} else if !errors.Is(err, fs.ErrNotExist) {
			log.Warn("reading a cached document", "type", typ, "error", err)
		}
	}
	return l
}

func (l *live) onOptions(f func(*config.Options)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onOption = append(l.onOption, f)
	f(l.options.Load())
}

func (l *live) onDocument(typ string, f func(string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onDoc[typ] = append(l.onDoc[typ], f)
	if text, ok := l.texts[typ]; ok {
		f(text)
	}
}

// apply takes a document that the cluster sent.
func (l *live) apply(doc management.Document) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if doc.Type == config.SharedFile {
		if err := l.applyShared(doc.Text); err != nil {
			l.log.Error("the shared configuration is refused, the old one stays in force", "revision", doc.Revision, "error", err)
			return
		}
	} else if old, ok := l.texts[doc.Type]; !ok || old != doc.Text {
		l.cache(doc.Type, doc.Text)
		l.texts[doc.Type] = doc.Text
		for _, f := range l.onDoc[doc.Type] {
			f(doc.Text)
		}
	}
	l.appliedMu.Lock()
	defer l.appliedMu.Unlock()
	l.applied[doc.Type] = doc.Revision
}

// applyShared parses the whole configuration with text as the shared one and puts it in force.
func (l *live) applyShared(text string) error {
	o, warnings, err := l.parse(text)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		l.log.Warn("configuration", "warning", w.String())
	}
	l.cache(config.SharedFile, text)
	l.replace(o)
	if !l.isFresh {
		l.isFresh = true
		close(l.fresh)
	}
	return nil
}

func (l *live) replace(o *config.Options) {
	l.options.Store(o)
	for _, f := range l.onOption {
		f(o)
	}
}

// parse reads this node's own files afresh and takes shared as the shared configuration.
func (l *live) parse(shared string) (*config.Options, []config.Warning, error) {
	var files []config.File
	for _, name := range []string{config.LocalFile, config.SharedFile, config.UserFile} {
		path := filepath.Join(l.dir, name)
		text := []byte(shared)
		if name != config.SharedFile {
			var err error
			if text, err = os.ReadFile(path); err != nil && (name == config.LocalFile || !errors.Is(err, fs.ErrNotExist)) {
				return nil, nil, fmt.Errorf("reading configuration: %w", err)
			}
		}
		files = append(files, config.File{Name: name, Path: path, Text: string(text)})
	}
	return config.Parse(files...)
}

// reload reads this node's own files again (SIGHUP).
func (l *live) reload() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	o, _, err := config.Load(l.dir)
	if err != nil {
		return err
	}
	l.replace(o)
	return nil
}

// cache keeps a copy for the next start; that it cannot is no reason to stop.
func (l *live) cache(name, text string) {
	path := filepath.Join(l.dir, name)
	if old, err := os.ReadFile(path); err == nil && string(old) == text {
		return
	}
	mode := os.FileMode(0o600) // shared_config holds keys
	if err := os.WriteFile(path+".new", []byte(text), mode); err != nil {
		l.log.Warn("caching configuration", "error", err)
		return
	}
	if err := os.Rename(path+".new", path); err != nil {
		l.log.Warn("caching configuration", "error", err)
	}
}

// restart lists the options that have changed since the role was started and that it reads only then.
func (l *live) restart() []string {
	begun, now := l.begun.Load(), l.options.Load()
	if begun == nil {
		return nil
	}
	return config.NeedsRestart(now.Role, begun, now)
}

// revisions returns document type -> revision in force.
func (l *live) revisions() map[string]int64 {
	l.appliedMu.Lock()
	defer l.appliedMu.Unlock()
	out := make(map[string]int64, len(l.applied))
	for k, v := range l.applied {
		out[k] = v
	}
	return out
}
