// Package provision is the HTTP API on 8889 by which subscribers are created, read and deleted: private identities,
// implicit registration sets, service profiles, public identities, filter criteria. It is that of Clearwater's
// Homestead-prov.
package provision

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/profilexml"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
	"github.com/clearwater-ims/clearwater/nodes/internal/httpserver"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// ListPath is the listing, which may take as long as its caller reads.
const ListPath = "/public/"

// api serves the calls; home is the realm of private identities that name none.
type api struct {
	db   *subscribers.DB
	home func() string
}

// Register adds the provisioning API to mux.
func Register(mux *http.ServeMux, db *subscribers.DB, home func() string) {
	a := &api{db, home}
	for pattern, handler := range map[string]func(r *http.Request) (answer, error){
		"GET /private/{impi}":    a.getPrivate,
		"PUT /private/{impi}":    a.putPrivate,
		"DELETE /private/{impi}": a.deletePrivate,
		"GET /private/{impi}/associated_implicit_registration_sets":          a.privateSets,
		"PUT /private/{impi}/associated_implicit_registration_sets/{irs}":    a.link,
		"DELETE /private/{impi}/associated_implicit_registration_sets/{irs}": a.unlink,
		"GET /private/{impi}/associated_public_ids":                          a.privatePublics,

		"POST /irs":                                                 a.createSet,
		"DELETE /irs/{irs}":                                         a.deleteSet,
		"GET /irs/{irs}/public_ids":                                 a.setPublics,
		"GET /irs/{irs}/private_ids":                                a.setPrivates,
		"PUT /irs/{irs}/private_ids/{impi}":                         a.link,
		"DELETE /irs/{irs}/private_ids/{impi}":                      a.unlink,
		"POST /irs/{irs}/service_profiles":                          a.createProfile,
		"DELETE /irs/{irs}/service_profiles/{sp}":                   a.deleteProfile,
		"GET /irs/{irs}/service_profiles/{sp}/public_ids":           a.profilePublics,
		"PUT /irs/{irs}/service_profiles/{sp}/public_ids/{impu}":    a.putPublic,
		"DELETE /irs/{irs}/service_profiles/{sp}/public_ids/{impu}": a.deletePublic,
		"GET /irs/{irs}/service_profiles/{sp}/filter_criteria":      a.getCriteria,
		"PUT /irs/{irs}/service_profiles/{sp}/filter_criteria":      a.putCriteria,
		"GET /public/{impu}/service_profile":                        a.publicProfile,
		"GET /public/{impu}/irs":                                    a.publicSet,
		"GET /public/{impu}/associated_private_ids":                 a.publicPrivates,
	} {
		mux.HandleFunc(pattern, serve(handler))
	}
	mux.HandleFunc("GET "+ListPath+"{$}", a.list)
}

// answer is what a call returns when it is no error. The zero value is 200 without a body.
type answer struct {
	status   int
	location string
	json     any
	xml      string
}

// status is an error that the caller made.
type status struct {
	code int
	err  error
}

func (s *status) Error() string { return s.err.Error() }

func badRequest(err error) error { return &status{http.StatusBadRequest, err} }

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`) // constant

// serve writes what a handler returns.
func serve(handler func(r *http.Request) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"irs", "sp"} {
			if id := r.PathValue(name); id != "" && !uuid.MatchString(id) {
				http.Error(w, name+" is not a UUID in lower case", http.StatusNotFound)
				return
			}
		}
		a, err := handler(r)
		if err != nil {
			fail(w, r, err)
			return
		}
		if a.location != "" {
			w.Header().Set("Location", a.location)
		}
		switch {
		case a.json != nil:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(a.json) // the caller is gone
		case a.xml != "":
			w.Header().Set("Content-Type", "application/xml")
			_, _ = w.Write([]byte(a.xml))
		case a.status != 0:
			w.WriteHeader(a.status)
		}
	}
}

// fail maps an error to its status. What does not exist need not be deleted: that is 204.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	var s *status
	code := http.StatusInternalServerError
	switch {
	case errors.As(err, &s):
		code = s.code
	case errors.Is(err, subscribers.ErrNotFound) && r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
		return
	case errors.Is(err, subscribers.ErrNotFound):
		code = http.StatusNotFound
	case errors.Is(err, subscribers.ErrMismatch):
		code = http.StatusForbidden
	case errors.Is(err, subscribers.ErrInvalid), errors.Is(err, profilexml.ErrInvalid), errors.Is(err, records.ErrInvalid):
		code = http.StatusBadRequest
	case errors.Is(err, rpc.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		code = http.StatusGatewayTimeout
	case errors.Is(err, rpc.ErrUnavailable):
		code = http.StatusServiceUnavailable
	}
	http.Error(w, err.Error(), code)
}

// body reads a request's body; an empty one is refused.
func body(r *http.Request) ([]byte, error) {
	text, code, err := httpserver.ReadBody(r)
	switch {
	case err != nil:
		return nil, &status{code, err}
	case len(text) == 0:
		return nil, badRequest(errors.New("the body is empty"))
	}
	return text, nil
}
