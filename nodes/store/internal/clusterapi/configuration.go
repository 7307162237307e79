package clusterapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/document"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/etcd"
)

// Types lists the documents that there can be.
func Types() []string { return append([]string{config.SharedFile}, config.DocumentTypes()...) }

func documentType(r *http.Request) (string, error) {
	typ := r.PathValue("type")
	if !slices.Contains(Types(), typ) {
		return "", refuse(http.StatusNotFound, fmt.Sprintf("there is no configuration %q, only %s", typ, strings.Join(Types(), ", ")))
	}
	return typ, nil
}

// current is the stored document, one of revision 0 when there is none.
func (a *API) current(r *http.Request, typ string) (management.Document, error) {
	d, err := a.Documents.Document(r.Context(), typ)
	if errors.Is(err, cluster.ErrNotFound) {
		return management.Document{Type: typ}, nil
	}
	return d, err
}

func (a *API) document(_ http.ResponseWriter, r *http.Request) (any, error) {
	typ, err := documentType(r)
	if err != nil {
		return nil, err
	}
	return a.current(r, typ)
}

// putDocument validates and writes a document over the revision that the caller has seen.
func (a *API) putDocument(w http.ResponseWriter, r *http.Request) (any, error) {
	typ, err := documentType(r)
	if err != nil {
		return nil, err
	}
	var d management.Document
	if err := management.ReadJSON(w, r, &d); err != nil {
		return nil, err
	}
	if d.Type != "" && d.Type != typ {
		return nil, refuse(http.StatusBadRequest, fmt.Sprintf("the body is %s, the path says %s", d.Type, typ))
	}
	old, err := a.current(r, typ)
	if err != nil {
		return nil, err
	}
	if d.Revision != old.Revision {
		return nil, a.conflict(typ, d.Revision, old)
	}
	warnings, err := document.Validate(typ, d.Text, old.Text, a.Options())
	if err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, err.Error())
	}
	d.Type, d.Author = typ, author(r, d.Author)
	stored, err := a.Documents.PutDocument(r.Context(), d)
	if errors.Is(err, cluster.ErrConflict) {
		return nil, a.conflict(typ, d.Revision, old)
	}
	if err != nil {
		return nil, a.unwritten(r, err)
	}
	a.Log.Info("configuration changed", "type", typ, "author", d.Author, "revision", stored.Revision,
		"was", old.Revision, "diff", document.Diff(old.Text, d.Text))
	stored.Warnings = warnings
	return stored, nil
}

// unwritten says why a write failed, in words for the operator where it is for want of a quorum.
func (a *API) unwritten(r *http.Request, err error) error {
	if a.Etcd.Leader(r.Context()) != nil {
		return refuse(http.StatusServiceUnavailable, fmt.Sprintf("%v (%v)", etcd.ErrQuorum, err))
	}
	return err
}

func (a *API) conflict(typ string, seen int64, now management.Document) error {
	message := fmt.Sprintf("%s was changed by somebody else: it is not at revision %d any more", typ, seen)
	if now.Revision != seen {
		message = fmt.Sprintf("%s is at revision %d (changed by %s), not at %d", typ, now.Revision, orUnknown(now.Author), seen)
	}
	return refuse(http.StatusConflict, message)
}

func orUnknown(author string) string {
	if author == "" {
		return "an unknown author"
	}
	return author
}

// author is who changed a document: the user that the caller names, and the certificate that vouches for him.
func author(r *http.Request, user string) string {
	name, _ := pki.Peer(r.TLS)
	switch {
	case user == "" || user == name:
		return name
	case name == "":
		return user
	}
	return user + " (" + name + ")"
}
