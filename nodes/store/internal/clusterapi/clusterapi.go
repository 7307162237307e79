// Package clusterapi is what store nodes add to the management API: the join of other nodes against one-time tokens,
// the shared configuration with its validation, and the view of the cluster. State is in etcd; this package keeps
// none. Who may call what at all is checked before it (service), which lets only /v1/join through without a certificate.
package clusterapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/etcd"
)

// Documents is the configuration in the cluster.
type Documents interface {
	Document(ctx context.Context, typ string) (management.Document, error)
	PutDocument(ctx context.Context, d management.Document) (management.Document, error)
	History(ctx context.Context, typ string) ([]management.Document, error)
}

// Queue is the restart queue in the cluster.
type Queue interface {
	RestartState(ctx context.Context) (cluster.RestartState, error)
	PutRestartState(ctx context.Context, s cluster.RestartState) error
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

// Etcd is what the calls do with the cluster itself.
type Etcd interface {
	Leader(ctx context.Context) error
	Peers(ctx context.Context) (id string, peers []cluster.Peer, err error)
	RemovePeer(ctx context.Context, id uint64) error
	Allow(ctx context.Context, node string, store bool) error
	Disallow(ctx context.Context, node string) error
}

// API serves the calls.
type API struct {
	Documents Documents
	Tokens    Tokens
	Registry  Registry
	Etcd      Etcd
	Queue     Queue
	Backups   Backups
	Recover   func(ctx context.Context) (from string, err error) // makes a cluster of this node alone
	Authority func() (*pki.Authority, error)                     // the site CA; an error while this node has none
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
	mux.HandleFunc("GET /v1/config/{type}/history", answer(a.history))
	mux.HandleFunc("GET /v1/config/{type}/history/{revision}", answer(a.documentAt))
	mux.HandleFunc("GET /v1/restarts", answer(a.restarts))
	mux.HandleFunc("POST /v1/restarts", answer(a.steerRestarts))
	mux.HandleFunc("GET /v1/cluster", answer(a.cluster))
	mux.HandleFunc("DELETE /v1/nodes/{name}", answer(a.forget))
	if a.Backups != nil {
		a.registerBackups(mux)
	}
	mux.HandleFunc("POST /v1/access", answer(a.access))
	mux.HandleFunc("POST /v1/authority", answer(a.authority))
	mux.HandleFunc("POST /v1/recover", answer(a.recover))
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
	nodes, err := a.Registry.Nodes(r.Context())
	if err != nil {
		return nil, err
	}
	c := management.Cluster{ID: id, Healthy: true, Members: members, Nodes: nodes}
	if err := a.Etcd.Leader(r.Context()); err != nil { // a linearizable read: it succeeds only with a quorum
		c.Healthy, c.Problem = false, etcd.ErrQuorum.Error()
	}
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
	if err := a.expel(r.Context(), name); err != nil {
		return nil, err
	}
	by, _ := pki.Peer(r.TLS)
	a.Log.Info("a node was removed from the registry", "node", name, "by", by)
	return struct{}{}, nil
}

// expel takes a forgotten node's rights in etcd, and its member there if it ran one.
func (a *API) expel(ctx context.Context, name string) error {
	if err := a.Etcd.Disallow(ctx, name); err != nil {
		return err
	}
	_, peers, err := a.Etcd.Peers(ctx)
	if err != nil {
		return err
	}
	for _, p := range peers {
		if p.Name == name && len(peers) > 1 {
			return a.Etcd.RemovePeer(ctx, p.ID)
		}
	}
	return nil
}

// access gives the caller its rights in etcd: whom this deployment has given a certificate as a node may be a client.
func (a *API) access(_ http.ResponseWriter, r *http.Request) (any, error) {
	name, role := pki.Peer(r.TLS)
	if !config.Role(role).Known() {
		return nil, refuse(http.StatusForbidden, name+" is no node")
	}
	if err := a.Etcd.Allow(r.Context(), name, role == string(config.Store)); err != nil {
		return nil, err
	}
	return struct{}{}, nil
}

// authority hands the site CA to another store node.
func (a *API) authority(_ http.ResponseWriter, r *http.Request) (any, error) {
	name, role := pki.Peer(r.TLS)
	if role != string(config.Store) {
		return nil, refuse(http.StatusForbidden, fmt.Sprintf("%s (%s) may not sign: only store nodes may", name, role))
	}
	authority, err := a.Authority()
	if err != nil {
		return nil, fmt.Errorf("this node cannot sign: %w", err)
	}
	key, err := authority.KeyPEM()
	if err != nil {
		return nil, err
	}
	a.Log.Info("another store node got the site CA", "node", name)
	return management.AuthorityResponse{Certificate: string(authority.CertificatePEM()), Key: string(key)}, nil
}

func (a *API) recover(_ http.ResponseWriter, r *http.Request) (any, error) {
	by, _ := pki.Peer(r.TLS)
	from, err := a.Recover(r.Context())
	if errors.Is(err, etcd.ErrHealthy) {
		return nil, refuse(http.StatusConflict, err.Error())
	}
	if err != nil {
		return nil, err
	}
	a.Log.Warn("etcd is recovered from this node alone", "by", by, "from", from)
	return management.RecoverResponse{From: from}, nil
}
