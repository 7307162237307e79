// Package xcap is the document server's HTTP API (the subset of RFC 4825 that the manual's document store offers): whole
// documents of users, read, written and deleted by path. Documents live in the store. It checks a document before
// it is kept and does not interpret it; what is valid is told by the document type.
package xcap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/xdms/internal/simservs"
)

// Store is where documents live.
type Store interface {
	Get(ctx context.Context, table string, keys ...string) ([]*records.Row, error)
	Swap(ctx context.Context, table, key string, version uint64, value []byte) (uint64, bool, error)
	Delete(ctx context.Context, table, key string, version uint64) (bool, error)
}

// storeTimeout is shorter than the 5 s that callers of the API wait.
const storeTimeout = 4 * time.Second

// Handler serves the documents of some types.
type Handler struct {
	mux   *http.ServeMux
	store Store
	log   *slog.Logger
}

// New returns a handler for the given types; their paths must differ.
func New(types []Type, store Store, log *slog.Logger) (*Handler, error) {
	h := &Handler{mux: http.NewServeMux(), store: store, log: log}
	seen := map[string]bool{}
	for _, t := range types {
		if err := t.check(); err != nil {
			return nil, err
		}
		if seen[t.Path] || seen["table "+t.Table] {
			return nil, fmt.Errorf("document type %s: path and table must be its own", t.Path)
		}
		seen[t.Path], seen["table "+t.Table] = true, true
		h.mux.HandleFunc("/"+t.Path+"/users/{user}/"+t.File, func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, t) })
	}
	return h, nil
}

// ServeHTTP serves one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, t Type) {
	user := r.PathValue("user")
	if records.CheckKeys(t.storeTable(), user) != nil || !strings.Contains(user, ":") {
		http.Error(w, fmt.Sprintf("%q is not a public identity", user), http.StatusNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	var err error
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		err = h.get(ctx, w, t, user)
	case http.MethodPut:
		err = h.put(ctx, w, r, t, user)
	case http.MethodDelete:
		err = h.remove(ctx, w, t, user)
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT, DELETE")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
	if err != nil {
		h.log.Warn("request failed", "method", r.Method, "document", t.Path, "user", user, "error", err)
		http.Error(w, "the document store does not answer", http.StatusServiceUnavailable)
	}
}

func (h *Handler) get(ctx context.Context, w http.ResponseWriter, t Type, user string) error {
	row, err := h.row(ctx, t, user)
	if err != nil {
		return err
	}
	if row.GetVersion() == 0 {
		http.Error(w, "there is no such document", http.StatusNotFound)
		return nil
	}
	w.Header().Set("Content-Type", t.contentType())
	_, _ = w.Write(row.GetValue())
	return nil
}

func (h *Handler) put(ctx context.Context, w http.ResponseWriter, r *http.Request, t Type, user string) error {
	if !isXML(r.Header.Get("Content-Type")) {
		http.Error(w, "the body must be XML", http.StatusUnsupportedMediaType)
		return nil
	}
	document, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		http.Error(w, fmt.Sprintf("at most %d bytes are allowed", simservs.MaxSize), http.StatusRequestEntityTooLarge)
		return nil
	case err != nil:
		http.Error(w, "the body did not arrive", http.StatusBadRequest)
		return nil
	}
	if err := t.validate(document); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return nil
	}
	// The last writer wins, so a lost swap is only tried again on the newer version.
	for {
		row, err := h.row(ctx, t, user)
		if err != nil {
			return err
		}
		if row.GetVersion() != 0 && bytes.Equal(row.GetValue(), document) {
			return nil
		}
		_, swapped, err := h.store.Swap(ctx, t.storeTable(), user, row.GetVersion(), document)
		if err != nil || swapped {
			return err //nolint:wrapcheck // it names table and key
		}
	}
}

func (h *Handler) remove(ctx context.Context, w http.ResponseWriter, t Type, user string) error {
	for {
		row, err := h.row(ctx, t, user)
		if err != nil {
			return err
		}
		if row.GetVersion() == 0 {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		deleted, err := h.store.Delete(ctx, t.storeTable(), user, row.GetVersion())
		if err != nil {
			return err //nolint:wrapcheck // it names table and key
		}
		if deleted {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
	}
}

func (h *Handler) row(ctx context.Context, t Type, user string) (*records.Row, error) {
	rows, err := h.store.Get(ctx, t.storeTable(), user)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names table and key
	}
	return rows[0], nil
}

// isXML accepts any XML type, and clients that name none.
func isXML(contentType string) bool {
	if contentType == "" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasSuffix(media, "/xml") || strings.HasSuffix(media, "+xml") ||
		media == "application/x-www-form-urlencoded" || media == "application/octet-stream" || media == "text/plain")
}
