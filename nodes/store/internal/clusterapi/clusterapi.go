// Package clusterapi is what store nodes add to the management API: the join of other nodes against one-time tokens,
// the shared configuration with its validation, and the view of the cluster. State is in etcd; this package keeps
// none. Who may call what at all is checked before it (service), which lets only /v1/join through without a certificate.
package clusterapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
)

// Documents is the configuration in the cluster.
type Documents interface {
	Document(ctx context.Context, typ string) (management.Document, error)
	PutDocument(ctx context.Context, d management.Document) (management.Document, error)
}

// Tokens are the join tokens in the cluster.
type Tokens interface {
	PutToken(ctx context.Context, node string, t management.Token) error
	Token(ctx context.Context, node string) (cluster.StoredToken, error)
	UseToken(ctx context.Context, node string, t cluster.StoredToken, usedBy string) error
}

// Registry is the cluster's view of itself.
type Registry interface {
	Nodes(ctx context.Context) ([]management.Registration, error)
	Members(ctx context.Context) (id string, members []management.Member, err error)
	Forget(ctx context.Context, name string) error
}

// API serves the calls.
type API struct {
	Documents Documents
	Tokens    Tokens
	Registry  Registry
	Authority func() (*pki.Authority, error) // the site CA; an error while this node has none
	Options   func() *config.Options
	Log       *slog.Logger
	Now       func() time.Time // nil: the system clock
}

// Register adds the calls to mux.
func (a *API) Register(mux *http.ServeMux) {
	mux.HandleFunc("PUT /v1/tokens/{name}", answer(a.putToken))
	mux.HandleFunc("POST /v1/join", answer(a.join))
	mux.HandleFunc("POST /v1/renew", answer(a.renew))
	mux.HandleFunc("GET /v1/config/{type}", answer(a.document))
	mux.HandleFunc("PUT /v1/config/{type}", answer(a.putDocument))
	mux.HandleFunc("GET /v1/cluster", answer(a.cluster))
	mux.HandleFunc("DELETE /v1/nodes/{name}", answer(a.forget))
}

func (a *API) now() time.Time {
	if a.Now != nil {
		return a.Now()
	}
	return time.Now()
}

// answer makes a handler of a call that returns what to answer. An error that is not a *management.Error means that
// the cluster cannot be asked: 503.
func answer(call func(http.ResponseWriter, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := call(w, r)
		if err == nil {
			management.WriteJSON(w, http.StatusOK, v)
			return
		}
		var known *management.Error
		if !errors.As(err, &known) {
			err = refuse(http.StatusServiceUnavailable, err.Error())
		}
		management.Fail(w, err)
	}
}

func refuse(status int, message string) error {
	return &management.Error{Status: status, Message: message}
}

func (a *API) cluster(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, members, err := a.Registry.Members(r.Context())
	if err != nil {
		return nil, err
	}
	nodes, err := a.Registry.Nodes(r.Context()) // a linearizable read: it succeeds only with a quorum
	if err != nil {
		return nil, err
	}
	c := management.Cluster{ID: id, Healthy: true, Members: members, Nodes: nodes}
	for _, m := range members {
		c.Healthy = c.Healthy && m.Healthy
	}
	return c, nil
}

func (a *API) forget(_ http.ResponseWriter, r *http.Request) (any, error) {
	name := r.PathValue("name")
	if err := a.Registry.Forget(r.Context(), name); err != nil {
		if errors.Is(err, cluster.ErrNotFound) {
			return nil, refuse(http.StatusNotFound, "no node "+name+" is registered")
		}
		return nil, err
	}
	by, _ := pki.Peer(r.TLS)
	a.Log.Info("a node was removed from the registry", "node", name, "by", by)
	return struct{}{}, nil
}
