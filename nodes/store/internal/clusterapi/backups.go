package clusterapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/backup"
)

// Backups is the folder of backups on this node.
type Backups interface {
	Create(ctx context.Context) (management.Backup, error)
	List() ([]management.Backup, error)
	Open(id string) (io.ReadCloser, error)
	Take(from io.Reader) (path string, err error)
	Restore(ctx context.Context, open func() (io.ReadCloser, error), only []string, author string) (backup.Restored, error)
}

// registerBackups adds the calls. All of them are for operators and store nodes: a backup holds secrets, so reading one is a
// POST, which the guard keeps from other nodes.
func (a *API) registerBackups(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/backups", answer(a.createBackup))
	mux.HandleFunc("GET /v1/backups", answer(func(http.ResponseWriter, *http.Request) (any, error) { return a.Backups.List() }))
	mux.HandleFunc("POST /v1/backups/{id}", a.readBackup)
	mux.HandleFunc("POST /v1/restore", answer(a.restore))
}

// unhurried lifts the limits that short calls have.
func unhurried(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{})
	_ = c.SetWriteDeadline(time.Time{})
}

func (a *API) createBackup(w http.ResponseWriter, r *http.Request) (any, error) {
	unhurried(w)
	return a.Backups.Create(r.Context())
}

func (a *API) readBackup(w http.ResponseWriter, r *http.Request) {
	in, err := a.Backups.Open(r.PathValue("id"))
	if errors.Is(err, os.ErrNotExist) {
		err = refuse(http.StatusNotFound, "this node has no backup "+r.PathValue("id"))
	}
	if err != nil {
		management.Fail(w, err)
		return
	}
	defer func() { _ = in.Close() }()
	unhurried(w)
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.Copy(w, in) // the file has a checksum: a broken transfer shows
}

// restore puts back a backup of this node (?id=) or the one in the body; ?only= names databases.
func (a *API) restore(w http.ResponseWriter, r *http.Request) (any, error) {
	unhurried(w)
	id := r.URL.Query().Get("id")
	open := func() (io.ReadCloser, error) { return a.Backups.Open(id) }
	if id == "" {
		path, err := a.Backups.Take(r.Body)
		if err != nil {
			return nil, err
		}
		defer func() { _ = os.Remove(path) }()
		open = func() (io.ReadCloser, error) { return os.Open(path) } //nolint:gosec // a file that Take made
	}
	var only []string
	if names := r.URL.Query().Get("only"); names != "" {
		only = strings.Split(names, ",")
	}
	by, _ := pki.Peer(r.TLS)
	done, err := a.Backups.Restore(r.Context(), open, only, fmt.Sprintf("restored by %s", by))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, refuse(http.StatusNotFound, "this node has no backup "+id)
	case errors.Is(err, backup.ErrRefused):
		return nil, refuse(http.StatusUnprocessableEntity, err.Error())
	case err != nil:
		return nil, err
	}
	return management.Restored{Rows: done.Rows, Removed: done.Removed, Documents: done.Documents}, nil
}
