// Package backup copies what a site cannot make again into one file and back: the rows that other roles keep (subscribers,
// documents, accounts and numbers) and the configuration. The file is the same for every engine and any number of nodes.
// Registrations, timers and caches are not in it: phones and networks bring them back.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// Databases, by the manual's names.
const (
	Provisioning  = "homestead_provisioning"
	Documents     = "homer"
	Portal        = "ellis"
	CallLists     = "memento"
	Configuration = "configuration"
	Others        = "others"
)

// Databases lists them all.
func Databases() []string {
	return []string{Provisioning, Documents, Portal, CallLists, Configuration, Others}
}

// ErrRefused wraps what is wrong with a file or a request.
var ErrRefused = errors.New("backup refused")

// databaseOf tells to which database a table belongs; "" for what is not kept.
func databaseOf(table string) string {
	switch {
	case table == "challenges", table == "cx", strings.HasPrefix(table, "_"):
		return ""
	case table == "subscribers":
		return Provisioning
	case strings.HasPrefix(table, "doc_"):
		return Documents
	case table == "account", strings.HasPrefix(table, "number"), table == "account_number":
		return Portal
	case strings.HasPrefix(table, "call_list"):
		return CallLists
	default:
		return Others
	}
}

// Config is the configuration in the cluster.
type Config interface {
	Documents(ctx context.Context) ([]management.Document, error)
	Document(ctx context.Context, typ string) (management.Document, error)
	PutDocument(ctx context.Context, d management.Document) (management.Document, error)
}

// Source is what is copied, and copied back to.
type Source struct {
	Engine engine.Engine
	Tables func(ctx context.Context) ([]string, error)   // of other roles
	Note   func(ctx context.Context, table string) error // makes Tables list one more
	Config Config
	Site   string
	Now    func() time.Time
}

const page = 500 // rows that are read at once

// Dump writes everything and returns how many rows and documents that were. What changes meanwhile is in it or is not, row by row.
func (s *Source) Dump(ctx context.Context, w io.Writer) (int64, error) {
	a, err := newWriter(w, header{Format: format, Site: s.Site, CreatedAt: s.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return 0, err
	}
	tables, err := s.Tables(ctx)
	if err != nil {
		return 0, err
	}
	for _, table := range tables {
		if databaseOf(table) == "" {
			continue
		}
		if err := s.dumpTable(ctx, a, table); err != nil {
			return 0, fmt.Errorf("copying table %s: %w", table, err)
		}
	}
	documents, err := s.Config.Documents(ctx)
	if err != nil {
		return 0, err
	}
	for _, d := range documents {
		if err := a.write(entry{Document: d.Type, Value: []byte(d.Text)}); err != nil {
			return 0, err
		}
	}
	return a.rows, a.close()
}

func (s *Source) dumpTable(ctx context.Context, a *writer, table string) error {
	return s.each(ctx, table, func(row engine.Row) error { return a.write(entry{Table: table, Key: row.Key, Value: row.Value}) })
}

// each reads a table in the order of its keys.
func (s *Source) each(ctx context.Context, table string, see func(engine.Row) error) error {
	r := engine.Range{}
	for {
		rows, more, err := s.Engine.Scan(ctx, table, r, page)
		if err != nil {
			return err //nolint:wrapcheck // the callers name the table
		}
		for _, row := range rows {
			if err := see(row); err != nil {
				return err
			}
			r.From = row.Key + "\x00"
		}
		if !more {
			return nil
		}
	}
}

// Restored is what a restore did.
type Restored struct {
	Rows      int64 // put back
	Removed   int64 // that were there and are not in the file
	Documents int64 // put back
}

// Load makes the databases that are named (none: all) what the file says; rows that it does not have go. The whole file is checked
// before anything is changed: open is called twice.
func (s *Source) Load(ctx context.Context, open func() (io.ReadCloser, error), only []string, author string) (Restored, error) {
	var done Restored
	for _, name := range only {
		if !slices.Contains(Databases(), name) {
			return done, fmt.Errorf("%w: there is no database %q, only %s", ErrRefused, name, strings.Join(Databases(), ", "))
		}
	}
	wanted := func(database string) bool { return len(only) == 0 || slices.Contains(only, database) }
	if err := s.check(ctx, open, wanted); err != nil {
		return done, err
	}
	in, err := open()
	if err != nil {
		return done, err
	}
	defer func() { _ = in.Close() }()
	a, err := newReader(in)
	if err != nil {
		return done, err
	}
	l := &load{Source: s, ctx: ctx, wanted: wanted, author: author}
	for {
		e, err := a.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = l.take(e)
		}
		if err != nil {
			return l.Restored, err
		}
	}
	return l.Restored, l.finish()
}

// check reads the file to its end and refuses one that is damaged, or of another deployment.
func (s *Source) check(ctx context.Context, open func() (io.ReadCloser, error), wanted func(string) bool) error {
	in, err := open()
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	a, err := newReader(in)
	if err != nil {
		return err
	}
	for {
		e, err := a.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Document != config.SharedFile || !wanted(Configuration) {
			continue
		}
		now, err := s.Config.Document(ctx, config.SharedFile)
		if err != nil && !errors.Is(err, cluster.ErrNotFound) {
			return err
		}
		if before, after := domain(now.Text), domain(string(e.Value)); before != "" && before != after {
			return fmt.Errorf("%w: it is of the home domain %s, this deployment is %s", ErrRefused, after, before)
		}
	}
}

// domain is the home_domain of a shared configuration.
func domain(text string) (value string) {
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "home_domain="); ok {
			value = strings.Trim(v, `"' `)
		}
	}
	return value
}
