package httpapi

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/portal/internal/accounts"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/rows"
)

const (
	cookieName  = "username"
	sessionLife = 30 * 24 * time.Hour
)

// login opens a session: POST /session.
func (h *Handler) login(ctx context.Context, c *call) (int, any, error) {
	if h.deps.Settings().CookieKey == "" {
		return 0, nil, fail(http.StatusServiceUnavailable, "sessions are off: ellis_cookie_key is not set")
	}
	email := c.arg("email")
	if email == "" {
		email = c.arg("username")
	}
	account, err := h.deps.Accounts.Login(ctx, email, c.arg("password"))
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // classified as it is
	}
	expires := h.deps.Now().Add(sessionLife)
	h.setCookie(c, h.cookie(account, expires), expires)
	return http.StatusCreated, describe(account), nil
}

// logout ends a session in the browser: DELETE /session.
func (h *Handler) logout(_ context.Context, c *call) (int, any, error) {
	h.setCookie(c, "", time.Unix(0, 0))
	return http.StatusNoContent, nil, nil
}

func (h *Handler) setCookie(c *call, value string, expires time.Time) {
	cookie := http.Cookie{
		Name: cookieName, Value: value, Path: "/", Expires: expires, HttpOnly: true,
		Secure: c.TLS != nil, SameSite: http.SameSiteLaxMode,
	}
	c.header.Add("Set-Cookie", cookie.String())
}

// cookie is <account>|<end of life>|<signature>, each base64. The signature covers the password's hash too, so that a new
// password ends every session.
func (h *Handler) cookie(account *rows.Account, expires time.Time) string {
	life := strconv.FormatInt(expires.Unix(), 10)
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(account.GetEmail())) + "|" + life + "|" + encode(h.sign(account, life))
}

func (h *Handler) sign(account *rows.Account, life string) []byte {
	mac := hmac.New(sha256.New, []byte(h.deps.Settings().CookieKey))
	for _, part := range []string{"portal session 1", account.GetEmail(), life, string(account.GetPasswordHash()), strconv.FormatInt(account.GetCreatedAt(), 10)} {
		_, _ = mac.Write([]byte(strconv.Itoa(len(part)) + ":" + part))
	}
	return mac.Sum(nil)
}

// user returns the account of the request's session, or nil.
func (h *Handler) user(ctx context.Context, c *call) (*rows.Account, error) {
	cookie, err := c.Cookie(cookieName)
	if err != nil || h.deps.Settings().CookieKey == "" {
		return nil, nil //nolint:nilnil,nilerr // no session is not an error
	}
	parts := strings.Split(cookie.Value, "|")
	if len(parts) != 3 {
		return nil, nil //nolint:nilnil // as above
	}
	email, err1 := base64.RawURLEncoding.DecodeString(parts[0])
	signature, err2 := base64.RawURLEncoding.DecodeString(parts[2])
	life, err3 := strconv.ParseInt(parts[1], 10, 64)
	if errors.Join(err1, err2, err3) != nil || h.deps.Now().Unix() >= life {
		return nil, nil //nolint:nilnil,nilerr // as above
	}
	account, err := h.deps.Accounts.Get(ctx, string(email))
	if errors.Is(err, accounts.ErrNotFound) {
		return nil, nil //nolint:nilnil // as above
	}
	if err != nil || !hmac.Equal(signature, h.sign(account, parts[1])) {
		return nil, err //nolint:wrapcheck // classified as it is
	}
	return account, nil
}

// hasKey tells whether the request carries the API key, under the name of either manual.
func (h *Handler) hasKey(c *call) bool {
	key := h.deps.Settings().APIKey
	for _, name := range []string{"NGV-API-Key", "X-NGV-API"} {
		if given := c.Header.Get(name); key != "" && subtle.ConstantTimeCompare([]byte(given), []byte(key)) == 1 {
			return true
		}
	}
	return false
}

// needKey lets only the API key pass.
func (h *Handler) needKey(c *call) error {
	if h.hasKey(c) {
		return nil
	}
	return fail(http.StatusForbidden, "this needs the API key (header NGV-API-Key)")
}

// needAccount lets the account of the path pass, and the API key for any account that exists.
func (h *Handler) needAccount(ctx context.Context, c *call) (email string, err error) {
	email = c.PathValue("email")
	if h.hasKey(c) {
		_, err := h.deps.Accounts.Get(ctx, email)
		return email, err //nolint:wrapcheck // classified as it is
	}
	user, err := h.user(ctx, c)
	switch {
	case err != nil:
		return "", err
	case user == nil:
		return "", fail(http.StatusForbidden, "log in, or give the API key (header NGV-API-Key)")
	case user.GetEmail() != email:
		return "", fail(http.StatusForbidden, "this is another user's")
	}
	return email, nil
}

func describe(a *rows.Account) map[string]string {
	return map[string]string{"username": a.GetEmail(), "full_name": a.GetFullName()}
}
