package clusterapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/cluster"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/rollout"
)

// history lists the changes of a document without their texts.
func (a *API) history(_ http.ResponseWriter, r *http.Request) (any, error) {
	typ, err := documentType(r)
	if err != nil {
		return nil, err
	}
	changes, err := a.Documents.History(r.Context(), typ)
	if err != nil {
		return nil, err
	}
	for i := range changes {
		changes[i].Text = ""
	}
	return changes, nil
}

// documentAt is a document as it was.
func (a *API) documentAt(_ http.ResponseWriter, r *http.Request) (any, error) {
	typ, err := documentType(r)
	if err != nil {
		return nil, err
	}
	revision, err := strconv.ParseInt(r.PathValue("revision"), 10, 64)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, fmt.Sprintf("revision %q is not a number", r.PathValue("revision")))
	}
	changes, err := a.Documents.History(r.Context(), typ)
	if err != nil {
		return nil, err
	}
	for _, d := range changes {
		if d.Revision == revision {
			return d, nil
		}
	}
	return nil, refuse(http.StatusNotFound, fmt.Sprintf("no change of %s at revision %d is kept", typ, revision))
}

func (a *API) restarts(_ http.ResponseWriter, r *http.Request) (any, error) {
	s, err := a.Queue.RestartState(r.Context())
	if err != nil {
		return nil, err
	}
	nodes, err := a.Registry.Nodes(r.Context())
	if err != nil {
		return nil, err
	}
	return rollout.View(s, nodes), nil
}

// steerRestarts goes on after a halt, or gives the restarts that wait up.
func (a *API) steerRestarts(w http.ResponseWriter, r *http.Request) (any, error) {
	var req management.RestartsRequest
	if err := management.ReadJSON(w, r, &req); err != nil {
		return nil, err
	}
	for {
		s, err := a.Queue.RestartState(r.Context())
		if err != nil {
			return nil, err
		}
		switch req.Action {
		case management.ResumeRestarts:
		case management.ClearRestarts:
			d, err := a.Documents.Document(r.Context(), config.SharedFile)
			if err != nil {
				return nil, err
			}
			s.Cleared = d.Revision
		default:
			return nil, refuse(http.StatusBadRequest, fmt.Sprintf("action %q: allowed are %s and %s", req.Action, management.ResumeRestarts, management.ClearRestarts))
		}
		s.Current, s.Since, s.Halted = "", time.Time{}, ""
		err = a.Queue.PutRestartState(r.Context(), s)
		if errors.Is(err, cluster.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, a.unwritten(r, err)
		}
		by, _ := pki.Peer(r.TLS)
		a.Log.Info("the restart queue was changed", "action", req.Action, "by", by)
		return a.restarts(w, r)
	}
}
