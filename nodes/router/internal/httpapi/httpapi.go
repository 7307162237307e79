// Package httpapi is the router's HTTP interface: on 9888 what the store and the diameter role tell it (expiry,
// deregistration by the HSS), on 9886 what operators ask (bindings of a user, administrative deregistration).
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/registrar"
)

// Registrar does what the interface asks.
type Registrar interface {
	Expire(ctx context.Context, aor string) error
	Deregister(ctx context.Context, aor, impi string, tell bool) (*registrations.ApplyResponse, error)
	DeregisterSilently(ctx context.Context, aor, impi string) (*registrations.ApplyResponse, error)
	Refresh(ctx context.Context, aor string, identities []string) error
}

// Reader reads registrations.
type Reader interface {
	Get(ctx context.Context, aor string) (*registrations.Record, error)
}

// Deps of the handlers.
type Deps struct {
	Registrar Registrar
	Reader    Reader
	HSS       hss.Server
	Profiles  *subscriber.Cache
	Log       *slog.Logger
	// Background runs what the answer does not wait for, for at most limit.
	Background func(limit time.Duration, f func(ctx context.Context))
}

// Signalling is the handler of 9888.
func Signalling(deps Deps) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", ping)
	mux.HandleFunc("POST /timers", deps.timer)
	mux.HandleFunc("DELETE /registrations", deps.deregister)
	mux.HandleFunc("PUT /registrations/{impu}", deps.push)
	return mux
}

// Management is the handler of 9886.
func Management(deps Deps) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", ping)
	mux.HandleFunc("GET /impu/{impu}/bindings", deps.bindings)
	mux.HandleFunc("GET /impu/{impu}/subscriptions", deps.subscriptions)
	mux.HandleFunc("DELETE /impu/{impu}", deps.remove)
	return mux
}

// longest body that is read, in bytes.
const longest = 1 << 20

func ping(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "OK") }

// timer is told that something of a set is due. The answer does not wait for the work: the store asks again while any
// of it is left.
func (d Deps) timer(w http.ResponseWriter, r *http.Request) {
	var body struct {
		AoR string `json:"aor_id"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, longest)).Decode(&body); err != nil || body.AoR == "" {
		http.Error(w, `the body must be {"aor_id": "<default public identity>"}`, http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusOK)
	d.Background(10*time.Second, func(ctx context.Context) {
		if err := d.Registrar.Expire(ctx, body.AoR); err != nil {
			d.Log.Info("expiring registrations; the store will ask again", "aor", body.AoR, "error", err)
		}
	})
}

// deregister is the HSS's RTR: sets, or one private identity of each, lose their bindings. The HSS need not be told;
// subscribers to the registration state are told as send-notifications says.
func (d Deps) deregister(w http.ResponseWriter, r *http.Request) {
	notify := r.URL.Query().Get("send-notifications")
	if notify != "true" && notify != "false" {
		http.Error(w, "send-notifications must be true or false", http.StatusBadRequest)
		return
	}
	var body struct {
		Registrations []struct {
			Primary string `json:"primary-impu"`
			IMPI    string `json:"impi"`
		} `json:"registrations"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, longest)).Decode(&body); err != nil || body.Registrations == nil {
		http.Error(w, `the body must be {"registrations": [{"primary-impu": "...", "impi": "..."}]}`, http.StatusBadRequest)
		return
	}
	for i, one := range body.Registrations {
		if _, err := sip.ParseURI(one.Primary); err != nil {
			http.Error(w, fmt.Sprintf("primary-impu of entry %d is no URI: %q", i+1, one.Primary), http.StatusBadRequest)
			return
		}
	}
	var failed error
	for _, one := range body.Registrations {
		var err error
		if notify == "true" {
			_, err = d.Registrar.Deregister(r.Context(), canonical(one.Primary), one.IMPI, false)
		} else {
			_, err = d.Registrar.DeregisterSilently(r.Context(), canonical(one.Primary), one.IMPI)
		}
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		d.Log.Error("deregistering for the HSS", "error", failed)
		http.Error(w, failed.Error(), http.StatusInternalServerError)
	}
}

func canonical(uri string) string {
	u, err := sip.ParseURI(uri)
	if err != nil {
		return uri
	}
	return u.Canonical()
}

// binding is one entry of the bindings answer.
type binding struct {
	URI       string            `json:"uri"`
	CallID    string            `json:"cid"`
	CSeq      uint32            `json:"cseq"`
	Expires   int64             `json:"expires"` // Unix seconds
	Priority  uint32            `json:"priority"`
	Params    map[string]string `json:"params"`
	Paths     []string          `json:"path_headers"`
	IMPI      string            `json:"private_id"`
	Emergency bool              `json:"emergency_reg"`
}

func (d Deps) bindings(w http.ResponseWriter, r *http.Request) {
	aor := canonical(r.PathValue("impu"))
	var all []*registrations.Binding
	for _, record := range []string{aor, registrar.EmergencyRecord(aor)} {
		record, err := d.Reader.Get(r.Context(), record)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		all = append(all, record.GetBindings()...)
	}
	if len(all) == 0 {
		http.Error(w, "no bindings of "+r.PathValue("impu"), http.StatusNotFound)
		return
	}
	out := map[string]binding{}
	for _, b := range all {
		params := map[string]string{}
		sip.Params(b.GetParams(), func(name, value string) bool {
			params[name] = value
			return true
		})
		out[b.GetId()] = binding{
			URI: b.GetUri(), CallID: b.GetCallId(), CSeq: b.GetCseq(), Expires: b.GetExpiresAt() / 1000, Priority: b.GetQ(),
			Params: params, Paths: b.GetPath(), IMPI: b.GetImpi(), Emergency: b.GetEmergency(),
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"bindings": out}) // the client has gone
}

// remove is the administrative deregistration of a set, named by its default identity.
func (d Deps) remove(w http.ResponseWriter, r *http.Request) {
	impu := canonical(r.PathValue("impu"))
	answer, err := d.HSS.Assign(r.Context(), &hss.AssignRequest{Impu: impu, Reqtype: hss.Call})
	switch {
	case err != nil || answer.GetResult() == hss.Result_RESULT_UNAVAILABLE || answer.GetResult() == hss.Result_RESULT_TIMEOUT:
		http.Error(w, "the HSS does not answer", http.StatusBadGateway)
		return
	case answer.GetResult() != hss.Result_RESULT_OK:
		http.Error(w, impu+" is not served here: "+answer.GetDetail(), http.StatusBadRequest)
		return
	}
	if p, err := d.Profiles.Parse(answer.GetRegData().GetImsSubscription()); err == nil {
		if main, ok := p.Default(); ok && main.Key != impu {
			http.Error(w, impu+" is not the default identity of its set, that is "+main.Key, http.StatusBadRequest)
			return
		}
	}
	if _, err := d.Registrar.Deregister(r.Context(), impu, "", true); err != nil {
		d.Log.Error("deregistering for the operator", "error", err)
		status := http.StatusInternalServerError
		if strings.Contains(err.Error(), "telling the HSS") {
			status = http.StatusBadGateway
		}
		http.Error(w, err.Error(), status)
	}
}
