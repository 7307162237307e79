package service

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// reasons says why the node should get no traffic.
func (n *Node) reasons() []string {
	out := n.ready.reasons()
	ordered, drained, err := n.drains.state()
	switch {
	case drained:
		out = append(out, "drained by order")
	case ordered:
		out = append(out, "draining")
	}
	if err != nil {
		out = append(out, err.Error())
	}
	return out
}

// state is what the registry and the status say of the node.
func (n *Node) state() (management.State, []string) {
	reasons := n.reasons()
	ordered, drained, _ := n.drains.state()
	_, unjoined := n.Identity.Certificate()
	switch {
	case drained:
		return management.Drained, reasons
	case ordered:
		return management.Draining, reasons
	case unjoined != nil:
		return management.Unjoined, reasons
	case len(reasons) > 0:
		return management.Joining, reasons
	default:
		return management.Ready, nil
	}
}

// registerManagement adds the calls that every node has.
func (b *boot) registerManagement(n *Node) {
	mux := n.Management
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { management.WriteJSON(w, http.StatusOK, b.status(n)) })
	mux.HandleFunc("POST /v1/drain", func(w http.ResponseWriter, r *http.Request) {
		var req management.DrainRequest
		if r.ContentLength != 0 {
			if err := management.ReadJSON(w, r, &req); err != nil {
				management.Fail(w, err)
				return
			}
		}
		if req.DeadlineSeconds < 0 {
			management.Fail(w, &management.Error{Status: http.StatusBadRequest, Message: "deadline_seconds must not be negative"})
			return
		}
		_, by := pki.Peer(r.TLS)
		n.Log.Info("drain ordered", "by", by, "deadline_seconds", req.DeadlineSeconds, "decommission", req.Decommission)
		if limit := time.Duration(req.DeadlineSeconds) * time.Second; req.Decommission {
			n.drains.decommission(limit)
		} else {
			n.drains.order(limit)
		}
		management.WriteJSON(w, http.StatusAccepted, struct{}{})
	})
	mux.HandleFunc("DELETE /v1/drain", func(w http.ResponseWriter, _ *http.Request) {
		if err := n.drains.undo(); err != nil {
			management.Fail(w, &management.Error{Status: http.StatusConflict, Message: err.Error()})
			return
		}
		management.WriteJSON(w, http.StatusOK, struct{}{})
	})
	mux.HandleFunc("POST /v1/restart", func(w http.ResponseWriter, r *http.Request) {
		by, _ := pki.Peer(r.TLS)
		n.Log.Info("restart ordered", "by", by)
		select {
		case b.again <- struct{}{}:
		default:
		}
		management.WriteJSON(w, http.StatusAccepted, struct{}{})
	})
	if b.bootstrap != nil {
		b.registerBootstrap(n)
	}
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
}

func (b *boot) status(n *Node) management.Status {
	o := n.Options()
	s := management.Status{
		Name: n.Name(), Role: string(o.Role), Site: o.Site, Version: version(), Digest: b.digest(),
		Incarnation: o.Incarnation, Held: n.drains.counts(), StartedAt: b.startedAt,
	}
	s.State, s.Reasons = n.state()
	s.Restart = n.live.restart()
	if id := n.clusterID.Load(); id != nil {
		s.ClusterID = *id
	}
	return s
}

// registerBootstrap serves the two steps of management.Bootstrap.
func (b *boot) registerBootstrap(n *Node) {
	unjoined := func(w http.ResponseWriter) bool {
		select {
		case <-n.Identity.Joined():
			management.Fail(w, &management.Error{Status: http.StatusConflict, Message: "this node has joined a cluster already"})
			return false
		default:
		}
		if n.Identity.Token() == "" {
			management.Fail(w, &management.Error{Status: http.StatusConflict, Message: "this node was given no join_token, so nobody can prove one"})
			return false
		}
		return true
	}
	n.Management.HandleFunc("GET /v1/bootstrap", func(w http.ResponseWriter, r *http.Request) {
		if !unjoined(w) {
			return
		}
		proof, err := pki.Prove(r.TLS, n.Identity.Token(), pki.SideNode)
		if err != nil {
			management.Fail(w, err)
			return
		}
		management.WriteJSON(w, http.StatusOK, management.BootstrapResponse{Proof: proof})
	})
	n.Management.HandleFunc("POST /v1/bootstrap", func(w http.ResponseWriter, r *http.Request) {
		b.bootstrapping.Lock()
		defer b.bootstrapping.Unlock()
		if !unjoined(w) {
			return
		}
		var req management.BootstrapRequest
		if err := management.ReadJSON(w, r, &req); err != nil {
			management.Fail(w, err)
			return
		}
		if err := pki.CheckProof(r.TLS, n.Identity.Token(), pki.SideProvider, req.Proof); err != nil {
			n.Log.Warn("a bootstrap was refused", "remote", r.RemoteAddr, "error", err)
			management.Fail(w, &management.Error{Status: http.StatusForbidden, Message: err.Error()})
			return
		}
		id, err := b.bootstrap(r.Context(), req, n.Identity)
		if err != nil {
			n.Log.Error("bootstrapping a cluster", "error", err)
			management.Fail(w, fmt.Errorf("bootstrapping a cluster: %w", err))
			return
		}
		proof, err := pki.Prove(r.TLS, n.Identity.Token(), pki.SideNode)
		if err != nil {
			management.Fail(w, err)
			return
		}
		management.WriteJSON(w, http.StatusOK, management.BootstrapResponse{Proof: proof, ClusterID: id})
	})
}

// guard lets only callers of the deployment through, but for the two calls that come before a certificate. What
// changes something, and profiles (they show memory), is for operators and store nodes.
func guard(next http.Handler) http.Handler {
	open := []string{"/v1/join", "/v1/bootstrap"}
	trusted := []string{pki.RoleOperator, string(config.Store)}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, role := pki.Peer(r.TLS)
		reading := r.Method == http.MethodGet && len(r.URL.Path) > 4 && r.URL.Path[:4] == "/v1/"
		switch {
		case slices.Contains(open, r.URL.Path):
		case role == "":
			management.Fail(w, &management.Error{Status: http.StatusUnauthorized, Message: "a certificate of this deployment is needed"})
			return
		case reading, r.URL.Path == "/v1/renew", r.URL.Path == "/v1/access", slices.Contains(trusted, role):
		default:
			management.Fail(w, &management.Error{Status: http.StatusForbidden, Message: fmt.Sprintf("%s (%s) may not do that: it is for the operator", name, role)})
			return
		}
		next.ServeHTTP(w, r)
	})
}
