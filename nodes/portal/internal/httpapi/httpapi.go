// Package httpapi is the portal's HTTP API as the manual's portal has it: accounts, sessions, lines, simservs and filter
// criteria, plus number blocks of ours. It turns requests into calls of accounts and numbers and their results into
// the documented answers. It keeps nothing.
package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/accounts"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/numbers"
)

// Settings are the options that the API obeys, read anew for every request.
type Settings struct {
	SignupKey, APIKey, CookieKey, HomeDomain string
}

// Provisioning is what the API asks the provisioning API beyond the making of lines.
type Provisioning interface {
	PublicProfile(ctx context.Context, publicID string) (provisioning.Profile, error)
	FilterCriteria(ctx context.Context, p provisioning.Profile) (string, error)
	PutFilterCriteria(ctx context.Context, p provisioning.Profile, document string) error
	PublicPrivateIDs(ctx context.Context, publicID string) ([]string, error)
	Private(ctx context.Context, impi string) (*provisioning.Private, error)
	PutPrivate(ctx context.Context, impi string, p provisioning.Private) error
}

// Documents is what the API asks the document server.
type Documents interface {
	Simservs(ctx context.Context, publicID string) (string, error)
	PutSimservs(ctx context.Context, publicID, document string) error
}

// Deps of a Handler.
type Deps struct {
	Settings     func() Settings
	Accounts     *accounts.Accounts
	Numbers      *numbers.Numbers
	Provisioning Provisioning
	Documents    Documents
	Log          *slog.Logger
	Now          func() time.Time
}

// Handler serves the API.
type Handler struct {
	deps Deps
	mux  *http.ServeMux
}

// endpoint answers one request with a body (nil: none) or an error. status 0 means 200.
type endpoint func(ctx context.Context, c *call) (status int, body any, err error)

// New returns the API.
func New(deps Deps) *Handler {
	h := &Handler{deps: deps, mux: http.NewServeMux()}
	routes := map[string]map[string]endpoint{
		"/accounts":                                {"POST": h.createAccount},
		"/accounts/{email}":                        {"DELETE": h.deleteAccount},
		"/accounts/{email}/password":               {"POST": h.setPassword},
		"/session":                                 {"POST": h.login, "DELETE": h.logout},
		"/accounts/{email}/numbers":                {"GET": h.listNumbers, "POST": h.allocateNumber},
		"/accounts/{email}/numbers/{uri}":          {"POST": h.assignNumber, "DELETE": h.releaseNumber},
		"/accounts/{email}/numbers/{uri}/password": {"POST": h.resetPassword},
		"/accounts/{email}/numbers/{uri}/simservs": {"GET": h.simservs, "PUT": h.putSimservs},
		"/accounts/{email}/numbers/{uri}/ifcs":     {"GET": h.filterCriteria, "PUT": h.putFilterCriteria},
		"/accounts/{email}/numbers/{uri}/listed":   {"GET": h.listed},
		"/accounts/{email}/numbers/{uri}/listed/0": {"PUT": h.setListed(false)},
		"/accounts/{email}/numbers/{uri}/listed/1": {"PUT": h.setListed(true)},
		"/gab":                   {"GET": h.addressBook},
		"/1/gab":                 {"GET": h.addressBook},
		"/sync":                  {"POST": h.sync},
		"/number-blocks":         {"GET": h.listBlocks},
		"/number-blocks/{start}": {"GET": h.block, "PUT": h.putBlock, "DELETE": h.deleteBlock},
	}
	for path, methods := range routes {
		h.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, methods) })
	}
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.answerError(w, r, nil, fail(http.StatusNotFound, "there is nothing at this path"))
	})
	return h
}

// ServeHTTP serves one request; a trailing slash is optional everywhere.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.URL.Path) > 1 && strings.HasSuffix(r.URL.Path, "/") {
		r = r.Clone(r.Context())
		r.URL.Path, r.URL.RawPath = strings.TrimRight(r.URL.Path, "/"), strings.TrimRight(r.URL.RawPath, "/")
		if r.URL.Path == "" {
			r.URL.Path = "/"
		}
	}
	h.mux.ServeHTTP(w, r)
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, methods map[string]endpoint) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	handle, ok := methods[method]
	if !ok {
		for m := range methods {
			w.Header().Add("Allow", m)
		}
		h.answerError(w, r, nil, fail(http.StatusMethodNotAllowed, r.Method+" is not allowed here"))
		return
	}
	c, err := newCall(w, r)
	if err != nil {
		h.answerError(w, r, nil, err)
		return
	}
	status, body, err := handle(r.Context(), c)
	if err != nil {
		h.answerError(w, r, c, err)
		return
	}
	h.answer(w, r, c, status, body)
}
