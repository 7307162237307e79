package httpapi

import (
	"encoding/json"
	"net/http"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
)

// push is the HSS's PPR: the profile of a set, named by its default identity, has changed. Sessions that begin from now
// on ask the HSS anyway; what is kept, the identities that the user may use, is brought up to date, and subscribers hear
// of it.
func (d Deps) push(w http.ResponseWriter, r *http.Request) {
	impu := canonical(r.PathValue("impu"))
	var body struct {
		Profile string `json:"user-data-xml"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, longest)).Decode(&body); err != nil || body.Profile == "" {
		http.Error(w, `the body must be {"user-data-xml": "<IMSSubscription>..."}`, http.StatusBadRequest)
		return
	}
	profile, err := subscriber.Parse(body.Profile)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if main, ok := profile.Default(); !ok || main.Key != impu {
		http.Error(w, impu+" is not the default identity of the profile; deregister its set", http.StatusBadRequest)
		return
	}
	if err := d.Registrar.Refresh(r.Context(), impu, profile.Unbarred()); err != nil {
		d.Log.Error("taking a changed profile", "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// subscription is one subscription to the state of a set as operators see it.
type subscription struct {
	Target  string   `json:"req_uri"`
	FromURI string   `json:"from_uri"` // the subscriber
	FromTag string   `json:"from_tag"`
	ToURI   string   `json:"to_uri"`
	ToTag   string   `json:"to_tag"`
	CallID  string   `json:"cid"`
	Routes  []string `json:"routes"`
	Expires int64    `json:"expires"` // Unix seconds
}

func (d Deps) subscriptions(w http.ResponseWriter, r *http.Request) {
	record, err := d.Reader.Get(r.Context(), canonical(r.PathValue("impu")))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if len(record.GetSubscriptions()) == 0 {
		http.Error(w, "no subscriptions to "+r.PathValue("impu"), http.StatusNotFound)
		return
	}
	out := map[string]subscription{}
	for _, s := range record.GetSubscriptions() {
		one := subscription{Target: s.GetTarget(), CallID: s.GetCallId(), ToTag: s.GetId(), Routes: s.GetRoute(), Expires: s.GetExpiresAt() / 1000}
		if a, err := sip.ParseAddress(s.GetRemote()); err == nil {
			one.FromURI = a.URI
			one.FromTag, _ = sip.Param(a.Params, "tag")
		}
		if a, err := sip.ParseAddress(s.GetLocal()); err == nil {
			one.ToURI = a.URI
		}
		out[s.GetId()] = one
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"subscriptions": out}) // the client has gone
}
