package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/accounts"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/numbers"
)

// failure is an answer of 400 or above.
type failure struct {
	status int
	reason string
	detail map[string]any
	cause  error // for the log
}

func (f *failure) Error() string { return f.reason }
func (f *failure) Unwrap() error { return f.cause }

func fail(status int, reason string) *failure { return &failure{status: status, reason: reason} }

// document is a body that is not JSON.
type document string

// answer writes a success.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, c *call, status int, body any) {
	if status == 0 {
		status = http.StatusOK
	}
	if target := c.redirection("onsuccess"); target != nil {
		data, err := json.Marshal(body)
		if err != nil {
			h.answerError(w, r, nil, err)
			return
		}
		redirect(w, target, url.Values{
			"success": {"true"}, "status": {strconv.Itoa(status)}, "message": {http.StatusText(status)}, "data": {string(data)},
		})
		return
	}
	if text, ok := body.(document); ok {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
		return
	}
	if body == nil {
		w.WriteHeader(status)
		return
	}
	write(w, r, status, body)
}

// answerError writes an error in the documented form. What is the server's fault is logged here and nowhere else.
func (h *Handler) answerError(w http.ResponseWriter, r *http.Request, c *call, err error) {
	f := classify(err)
	if f.status >= http.StatusInternalServerError {
		h.deps.Log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "status", f.status, "error", err)
	}
	if f.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	if f.detail == nil {
		f.detail = map[string]any{}
	}
	if target := c.redirection("onfailure"); target != nil {
		detail, _ := json.Marshal(f.detail)
		redirect(w, target, url.Values{
			"error": {"true"}, "status": {strconv.Itoa(f.status)}, "message": {http.StatusText(f.status)},
			"reason": {f.reason}, "detail": {string(detail)},
		})
		return
	}
	write(w, r, f.status, map[string]any{
		"error": true, "status": f.status, "message": http.StatusText(f.status), "reason": f.reason, "detail": f.detail,
	})
}

// classify finds the status and the words for an error.
func classify(err error) *failure {
	var f *failure
	var invalid *accounts.InvalidError
	var backend *numbers.BackendError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &invalid):
		return &failure{http.StatusBadRequest, invalid.Error(), map[string]any{invalid.Field: invalid.Reason}, err}
	case errors.As(err, &backend):
		return upstream(err)
	case errors.Is(err, numbers.ErrInvalid):
		return &failure{http.StatusBadRequest, err.Error(), nil, err}
	case errors.Is(err, accounts.ErrExists):
		return &failure{http.StatusConflict, accounts.ErrExists.Error(), nil, err}
	case errors.Is(err, accounts.ErrPassword):
		return &failure{http.StatusForbidden, accounts.ErrPassword.Error(), nil, err}
	case errors.Is(err, accounts.ErrBusy):
		return &failure{http.StatusServiceUnavailable, accounts.ErrBusy.Error(), nil, err}
	case errors.Is(err, accounts.ErrNotFound):
		return &failure{http.StatusNotFound, accounts.ErrNotFound.Error(), nil, err}
	case errors.Is(err, numbers.ErrNotFound):
		return &failure{http.StatusNotFound, numbers.ErrNotFound.Error(), nil, err}
	case errors.Is(err, numbers.ErrEmpty):
		return &failure{http.StatusServiceUnavailable, numbers.ErrEmpty.Error(), nil, err}
	case errors.Is(err, numbers.ErrTaken):
		return &failure{http.StatusConflict, err.Error(), nil, err}
	default:
		return &failure{http.StatusServiceUnavailable, "the state store does not answer", nil, err}
	}
}

// upstream is the answer when a call to another role failed.
func upstream(err error) *failure {
	detail := map[string]any{"Upstream error": "no answer", "Upstream URL": ""}
	var answered *rest.Error
	var unanswered *url.Error
	switch {
	case errors.As(err, &answered):
		detail["Upstream error"], detail["Upstream URL"] = strconv.Itoa(answered.Status), answered.URL
		detail["Upstream reason"] = answered.Reason
	case errors.As(err, &unanswered):
		detail["Upstream URL"] = unanswered.URL
	}
	return &failure{http.StatusBadGateway, "Upstream request failed", detail, err}
}

// redirection returns where a form wants its answer, or nil. Only paths of this host are taken, so that no page elsewhere
// can have itself sent a line's password.
func (c *call) redirection(name string) *url.URL {
	if c == nil || c.arg(name) == "" {
		return nil
	}
	target, err := url.Parse(c.arg(name))
	if err != nil || target.IsAbs() || target.Host != "" || !strings.HasPrefix(target.Path, "/") ||
		strings.HasPrefix(target.Path, "//") || strings.ContainsRune(target.Path, '\\') {
		return nil
	}
	return target
}

func redirect(w http.ResponseWriter, target *url.URL, fields url.Values) {
	query := target.Query()
	for name, values := range fields {
		query[name] = values
	}
	target.RawQuery = query.Encode()
	w.Header().Set("Location", target.String())
	w.WriteHeader(http.StatusFound)
}

// write sends a body as JSON, or as MessagePack to clients that ask for it.
func write(w http.ResponseWriter, r *http.Request, status int, body any) {
	w.Header().Set("Cache-Control", "no-store") // an answer may hold a password
	if strings.Contains(r.Header.Get("Accept"), "application/x-msgpack") {
		if packed, err := msgpack(body); err == nil {
			w.Header().Set("Content-Type", "application/x-msgpack")
			w.WriteHeader(status)
			_, _ = w.Write(packed)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
