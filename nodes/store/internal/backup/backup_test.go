package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/backup"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/embedded"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/memory"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/record"
)

// configuration is documents in memory.
type configuration map[string]management.Document

func (c configuration) Documents(context.Context) (out []management.Document, err error) {
	for _, d := range c {
		out = append(out, d)
	}
	return out, nil
}

func (c configuration) Document(_ context.Context, typ string) (management.Document, error) {
	d, ok := c[typ]
	if !ok {
		return d, cluster.ErrNotFound
	}
	return d, nil
}

func (c configuration) PutDocument(_ context.Context, d management.Document) (management.Document, error) {
	if c[d.Type].Revision != d.Revision {
		return d, cluster.ErrConflict
	}
	d.Revision++
	c[d.Type] = d
	return d, nil
}

type site struct {
	*backup.Source
	rows   *record.Service
	engine engine.Engine
	docs   configuration
}

func newSite(e engine.Engine) *site {
	rows, docs := record.New(e), configuration{}
	docs["shared_config"] = management.Document{Type: "shared_config", Text: "home_domain=example.com\n", Revision: 1}
	return &site{rows: rows, engine: e, docs: docs, Source: &backup.Source{Engine: e, Tables: rows.Tables, Note: rows.Note, Config: docs, Site: "site1", Now: time.Now}}
}

func (s *site) put(t *testing.T, table, key, value string) {
	t.Helper()
	got, err := s.rows.Get(t.Context(), table, key)
	if err != nil {
		t.Fatal(err)
	}
	if _, done, err := s.rows.Swap(t.Context(), table, key, got[0].GetVersion(), []byte(value)); err != nil || !done {
		t.Fatal(done, err)
	}
}

// content is everything that other roles have, and the documents.
func (s *site) content(t *testing.T) string {
	t.Helper()
	tables, err := s.rows.Tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, table := range tables {
		rows, _, err := s.engine.Scan(t.Context(), table, engine.Range{}, 100000)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			fmt.Fprintf(&b, "%s %s=%s\n", table, r.Key, r.Value)
		}
	}
	for _, typ := range []string{"bgcf_json", "shared_config"} {
		fmt.Fprintf(&b, "%s: %s\n", typ, s.docs[typ].Text)
	}
	return b.String()
}

func (s *site) dump(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := s.Dump(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func opener(content []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
}

func filled(t *testing.T, e engine.Engine) *site {
	t.Helper()
	s := newSite(e)
	for i := range 1500 { // more than a page
		s.put(t, "subscribers", fmt.Sprintf("sip:%04d@example.com", i), strings.Repeat("x", i%50))
	}
	s.put(t, "doc_simservs", "sip:1@example.com", "<simservs/>")
	s.put(t, "account", "a@example.com", "\x00\xff binary")
	s.put(t, "number_free", "pstn/1", "")
	s.put(t, "something_new", "k", "v")
	s.docs["bgcf_json"] = management.Document{Type: "bgcf_json", Text: "{}", Revision: 3}
	return s
}

// TestBackupWipeRestore restores onto another engine, and over changes: everything is as it was.
func TestBackupWipeRestore(t *testing.T) {
	s := filled(t, memory.New())
	s.put(t, "challenges", "nonce", "not kept")
	want, file := s.content(t), s.dump(t)
	want = strings.ReplaceAll(want, "challenges nonce=not kept\n", "")

	disk, err := embedded.Open(embedded.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Close() })
	other := newSite(disk)
	done, err := other.Load(t.Context(), opener(file), nil, "me")
	if err != nil {
		t.Fatal(err)
	}
	if got := other.content(t); got != want || strings.Contains(got, "not kept") {
		t.Errorf("on another engine there is\n%.300s\nwant\n%.300s", got, want)
	}
	if done.Rows != 1504 || done.Removed != 0 || done.Documents != 1 || other.docs["bgcf_json"].Author != "me" {
		t.Errorf("it did %+v, the document is %+v", done, other.docs["bgcf_json"])
	}
	// Changes since the backup are undone, and a second restore has nothing to do.
	other.put(t, "subscribers", "sip:new@example.com", "x")
	other.put(t, "number_listed", "only here", "x")
	other.put(t, "account", "a@example.com", "changed")
	if done, err = other.Load(t.Context(), opener(file), nil, "me"); err != nil || done.Rows != 1 || done.Removed != 2 {
		t.Errorf("over changes it did %+v, %v", done, err)
	}
	if done, err = other.Load(t.Context(), opener(file), nil, "me"); err != nil || done != (backup.Restored{}) {
		t.Errorf("the second time it did %+v, %v", done, err)
	}
	// Only one database.
	other.put(t, "account", "a@example.com", "changed")
	other.put(t, "doc_simservs", "sip:2@example.com", "<simservs/>")
	if done, err = other.Load(t.Context(), opener(file), []string{backup.Documents}, "me"); err != nil || done.Rows != 0 || done.Removed != 1 {
		t.Errorf("of one database it did %+v, %v", done, err)
	}
}

// TestDamagedBackupsChangeNothing cuts and alters a backup at many places.
func TestDamagedBackupsChangeNothing(t *testing.T) {
	file := filled(t, memory.New()).dump(t)
	target := newSite(memory.New())
	target.put(t, "account", "b@example.com", "precious")
	before := target.content(t)
	refused := func(what string, content []byte, only ...string) {
		t.Helper()
		if _, err := target.Load(t.Context(), opener(content), only, "me"); !errors.Is(err, backup.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
		if got := target.content(t); got != before {
			t.Fatalf("%s: it changed %s", what, got)
		}
	}
	for i := 0; i < len(file); i += len(file) / 40 {
		refused(fmt.Sprint("cut at ", i), file[:i])
		bad := bytes.Clone(file)
		bad[i] ^= 0x10
		if i > 10 { // the first bytes hold gzip's time and system, which mean nothing
			refused(fmt.Sprint("altered at ", i), bad)
		}
	}
	refused("something behind it", append(bytes.Clone(file), file...))
	refused("no backup", []byte("hello"))
	refused("an unknown database", file, "everything")
	other := filled(t, memory.New())
	other.docs["shared_config"] = management.Document{Type: "shared_config", Text: "home_domain=other.example.com\n", Revision: 1}
	refused("another deployment", other.dump(t))
	if _, err := target.Load(t.Context(), opener(other.dump(t)), []string{backup.Portal}, "me"); err != nil {
		t.Errorf("the accounts of another deployment: %v", err)
	}
}

func TestFolderKeepsFour(t *testing.T) {
	s := filled(t, memory.New())
	now := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)
	s.Now = func() time.Time { return now }
	f := &backup.Folder{Dir: filepath.Join(t.TempDir(), "backups"), Source: s.Source, Log: slog.New(slog.DiscardHandler)}
	if list, err := f.List(); err != nil || len(list) != 0 {
		t.Errorf("an empty folder: %v, %v", list, err)
	}
	for range 6 {
		now = now.Add(24 * time.Hour)
		if b, err := f.Create(t.Context()); err != nil || b.Rows != 1506 || b.Size == 0 {
			t.Fatalf("%+v, %v", b, err)
		}
	}
	list, err := f.List()
	if err != nil || len(list) != 4 || list[0].ID != "20260107T100000Z" || list[3].ID != "20260104T100000Z" {
		t.Errorf("kept are %+v, %v", list, err)
	}
	if _, err := f.Open("../../etc/passwd"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a path as an id: %v", err)
	}
	if _, err := f.Restore(t.Context(), func() (io.ReadCloser, error) { return f.Open(list[0].ID) }, nil, "me"); err != nil {
		t.Error(err)
	}
}
