package httpapi

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"sort"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/portal/internal/accounts"
)

// createAccount signs up: POST /accounts. The API key stands in for a sign-up code.
func (h *Handler) createAccount(ctx context.Context, c *call) (int, any, error) {
	if !h.hasKey(c) {
		code := c.Header.Get("NGV-Signup-Code")
		if code == "" {
			code = c.arg("signup_code")
		}
		key := h.deps.Settings().SignupKey
		if key == "" || subtle.ConstantTimeCompare([]byte(code), []byte(key)) != 1 {
			return 0, nil, fail(http.StatusForbidden, "invalid sign-up code")
		}
	}
	account, err := h.deps.Accounts.Create(ctx, accounts.NewAccount{
		Email: c.arg("email"), FullName: c.arg("full_name"), Password: c.arg("password"), Expires: c.arg("expires"),
	})
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // classified as it is
	}
	h.deps.Log.Info("account created", "email", account.GetEmail())
	return http.StatusCreated, describe(account), nil
}

// deleteAccount removes an account and its lines: DELETE /accounts/<email>. One that is half deleted or has expired can be
// deleted with the API key.
func (h *Handler) deleteAccount(ctx context.Context, c *call) (int, any, error) {
	email := c.PathValue("email")
	if !h.hasKey(c) {
		if _, err := h.needAccount(ctx, c); err != nil {
			return 0, nil, err
		}
	}
	if err := h.RemoveAccount(ctx, email); err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, nil
}

// RemoveAccount deletes an account and its lines. It may be repeated after a failure.
func (h *Handler) RemoveAccount(ctx context.Context, email string) error {
	if err := h.deps.Accounts.Close(ctx, email); err != nil {
		return err //nolint:wrapcheck // classified as it is
	}
	if err := h.deps.Numbers.ReleaseAll(ctx, email); err != nil {
		return err //nolint:wrapcheck // classified as it is
	}
	if err := h.deps.Accounts.Remove(ctx, email); err != nil {
		return err //nolint:wrapcheck // classified as it is
	}
	h.deps.Log.Info("account deleted", "email", email)
	return nil
}

// setPassword sets an account's password: POST /accounts/<email>/password with a session or the API key. Recovery by e-mail, which
// is what a request without either asks for, needs a mail server and is not offered.
func (h *Handler) setPassword(ctx context.Context, c *call) (int, any, error) {
	email, err := h.needAccount(ctx, c)
	var f *failure
	if errors.As(err, &f) && f.status == http.StatusForbidden {
		return 0, nil, fail(http.StatusServiceUnavailable, "password recovery by e-mail is not configured; ask the operator")
	}
	if err != nil {
		return 0, nil, err
	}
	password := c.arg("password")
	if strings.HasPrefix(c.Header.Get("Content-Type"), "text/plain") {
		password = strings.TrimRight(string(c.body), "\r\n")
	}
	if err := h.deps.Accounts.SetPassword(ctx, email, password); err != nil {
		return 0, nil, err //nolint:wrapcheck // classified as it is
	}
	return 0, map[string]any{}, nil
}

// addressBook lists who may be called: GET /gab. Any user may read it.
func (h *Handler) addressBook(ctx context.Context, c *call) (int, any, error) {
	if !h.hasKey(c) {
		if user, err := h.user(ctx, c); err != nil {
			return 0, nil, err
		} else if user == nil {
			return 0, nil, fail(http.StatusForbidden, "log in, or give the API key (header NGV-API-Key)")
		}
	}
	listed, err := h.deps.Numbers.Listed(ctx)
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // classified as it is
	}
	type contact struct {
		Email    string   `json:"email"`
		FullName string   `json:"full_name"`
		Numbers  []string `json:"numbers"`
	}
	contacts := []contact{}
	for email, uris := range listed {
		account, err := h.deps.Accounts.Get(ctx, email)
		if errors.Is(err, accounts.ErrNotFound) {
			continue
		}
		if err != nil {
			return 0, nil, err //nolint:wrapcheck // classified as it is
		}
		contacts = append(contacts, contact{email, account.GetFullName(), uris})
	}
	sort.Slice(contacts, func(i, j int) bool { return contacts[i].Email < contacts[j].Email })
	return 0, map[string]any{"contacts": contacts}, nil
}

// RemoveExpired deletes the accounts whose time is over and tells how many it deleted. Several nodes may do so at once.
func (h *Handler) RemoveExpired(ctx context.Context) (removed int, err error) {
	expired, err := h.deps.Accounts.Expired(ctx)
	if err != nil {
		return 0, err //nolint:wrapcheck // it says what it did
	}
	var problems []error
	for _, email := range expired {
		switch err := h.RemoveAccount(ctx, email); {
		case err == nil:
			removed++
		case !errors.Is(err, accounts.ErrNotFound):
			problems = append(problems, err)
		}
	}
	return removed, errors.Join(problems...)
}
