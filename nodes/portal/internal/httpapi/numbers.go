package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/api/portal"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/portal/internal/numbers"
)

// listNumbers is GET /accounts/<email>/numbers.
func (h *Handler) listNumbers(ctx context.Context, c *call) (int, any, error) {
	email, err := h.needAccount(ctx, c)
	if err != nil {
		return 0, nil, err
	}
	lines, err := h.deps.Numbers.List(ctx, email)
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // classified as it is
	}
	out := make([]listedNumber, 0, len(lines))
	for _, line := range lines {
		out = append(out, listedNumber{describeLine(line), line.GetListed()})
	}
	return 0, map[string]any{"numbers": out}, nil
}

// listedNumber always says whether the line is in the address book.
type listedNumber struct {
	portal.Number

	Listed bool `json:"gab_listed"`
}

// allocateNumber is POST /accounts/<email>/numbers.
func (h *Handler) allocateNumber(ctx context.Context, c *call) (int, any, error) {
	email, err := h.needAccount(ctx, c)
	if err != nil {
		return 0, nil, err
	}
	options, err := c.options()
	if err != nil {
		return 0, nil, err
	}
	options.NewPrivateID = false
	line, err := h.deps.Numbers.Allocate(ctx, email, options)
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // classified as it is
	}
	return 0, describeLine(line), nil
}

// assignNumber is POST /accounts/<email>/numbers/<uri>.
func (h *Handler) assignNumber(ctx context.Context, c *call) (int, any, error) {
	if err := h.needKey(c); err != nil {
		return 0, nil, err
	}
	email, err := h.needAccount(ctx, c)
	if err != nil {
		return 0, nil, err
	}
	options, err := c.options()
	if err != nil {
		return 0, nil, err
	}
	line, err := h.deps.Numbers.Assign(ctx, email, c.PathValue("uri"), options)
	if err != nil {
		return 0, nil, err //nolint:wrapcheck // classified as it is
	}
	out := describeLine(line)
	out.SIPUsername = out.PrivateID
	return 0, out, nil
}

func (c *call) options() (o numbers.Options, err error) {
	if o.PSTN, err = c.flag("pstn"); err != nil {
		return o, err
	}
	o.NewPrivateID, err = c.flag("new_private_id")
	if o.PrivateID = c.arg("private_id"); len(o.PrivateID) > 512 {
		err = fail(http.StatusBadRequest, "private_id is too long")
	}
	return o, err
}

// releaseNumber is DELETE /accounts/<email>/numbers/<uri>.
func (h *Handler) releaseNumber(ctx context.Context, c *call) (int, any, error) {
	email, err := h.needAccount(ctx, c)
	if err != nil {
		return 0, nil, err
	}
	if err := h.deps.Numbers.Release(ctx, email, c.PathValue("uri"), false); err != nil {
		return 0, nil, err //nolint:wrapcheck // classified as it is
	}
	return 0, map[string]any{}, nil
}

// line finds the line of the path for whoever may touch it.
func (h *Handler) line(ctx context.Context, c *call) (*numbers.Line, error) {
	email, err := h.needAccount(ctx, c)
	if err != nil {
		return nil, err
	}
	return h.deps.Numbers.Get(ctx, email, c.PathValue("uri")) //nolint:wrapcheck // classified as it is
}

// resetPassword is POST .../password: a new random one for the line's private identity, told this once.
func (h *Handler) resetPassword(ctx context.Context, c *call) (int, any, error) {
	line, err := h.line(ctx, c)
	if err != nil {
		return 0, nil, err
	}
	privates, err := h.deps.Provisioning.PublicPrivateIDs(ctx, line.GetUri())
	if err != nil {
		return 0, nil, &numbers.BackendError{Err: err}
	}
	if len(privates) == 0 {
		return 0, nil, fail(http.StatusBadGateway, "the line has no private identity")
	}
	password, realm := numbers.NewPassword(), provisioning.DomainOf(line.GetUri())
	before, err := h.deps.Provisioning.Private(ctx, privates[0])
	if err != nil {
		return 0, nil, &numbers.BackendError{Err: err}
	}
	if before.Realm != "" {
		realm = before.Realm
	}
	credentials := provisioning.Private{DigestHA1: provisioning.HA1(privates[0], realm, password), Realm: realm}
	if err := h.deps.Provisioning.PutPrivate(ctx, privates[0], credentials); err != nil {
		return 0, nil, &numbers.BackendError{Err: err}
	}
	return 0, map[string]string{"sip_password": password}, nil
}

// simservs is GET .../simservs.
func (h *Handler) simservs(ctx context.Context, c *call) (int, any, error) {
	line, err := h.line(ctx, c)
	if err != nil {
		return 0, nil, err
	}
	text, err := h.deps.Documents.Simservs(ctx, line.GetUri())
	if err != nil {
		return 0, nil, &numbers.BackendError{Err: err}
	}
	return 0, document(text), nil
}

// putSimservs is PUT .../simservs.
func (h *Handler) putSimservs(ctx context.Context, c *call) (int, any, error) {
	line, err := h.line(ctx, c)
	if err != nil {
		return 0, nil, err
	}
	if len(c.body) == 0 {
		return 0, nil, fail(http.StatusBadRequest, "the body must be a simservs document")
	}
	if err := h.deps.Documents.PutSimservs(ctx, line.GetUri(), string(c.body)); err != nil {
		return 0, nil, &numbers.BackendError{Err: err}
	}
	return 0, map[string]any{}, nil
}

// filterCriteria is GET .../ifcs.
func (h *Handler) filterCriteria(ctx context.Context, c *call) (int, any, error) {
	line, err := h.line(ctx, c)
	if err != nil {
		return 0, nil, err
	}
	profile, err := h.deps.Provisioning.PublicProfile(ctx, line.GetUri())
	if err != nil {
		return 0, nil, &numbers.BackendError{Err: err}
	}
	text, err := h.deps.Provisioning.FilterCriteria(ctx, profile)
	if err != nil {
		return 0, nil, &numbers.BackendError{Err: err}
	}
	return 0, document(text), nil
}

// putFilterCriteria is PUT .../ifcs.
func (h *Handler) putFilterCriteria(ctx context.Context, c *call) (int, any, error) {
	line, err := h.line(ctx, c)
	if err != nil {
		return 0, nil, err
	}
	if len(c.body) == 0 {
		return 0, nil, fail(http.StatusBadRequest, "the body must be a ServiceProfile document")
	}
	profile, err := h.deps.Provisioning.PublicProfile(ctx, line.GetUri())
	if err != nil {
		return 0, nil, &numbers.BackendError{Err: err}
	}
	if err := h.deps.Provisioning.PutFilterCriteria(ctx, profile, string(c.body)); err != nil {
		return 0, nil, &numbers.BackendError{Err: err}
	}
	return 0, map[string]any{}, nil
}

// listed is GET .../listed.
func (h *Handler) listed(ctx context.Context, c *call) (int, any, error) {
	line, err := h.line(ctx, c)
	if err != nil {
		return 0, nil, err
	}
	return 0, map[string]bool{"gab_listed": line.GetListed()}, nil
}

// setListed is PUT .../listed/0 or 1.
func (h *Handler) setListed(value bool) endpoint {
	return func(ctx context.Context, c *call) (int, any, error) {
		email, err := h.needAccount(ctx, c)
		if err != nil {
			return 0, nil, err
		}
		if err := h.deps.Numbers.SetListed(ctx, email, c.PathValue("uri"), value); err != nil {
			return 0, nil, err //nolint:wrapcheck // classified as it is
		}
		return 0, map[string]any{}, nil
	}
}

func describeLine(line *numbers.Line) portal.Number {
	user, domain, _ := strings.Cut(strings.TrimPrefix(line.GetUri(), "sip:"), "@")
	out := portal.Number{
		ID: line.GetNumberId(), Number: user, Formatted: formatNumber(user), SIPURI: line.GetUri(), SIPUsername: user,
		Domain: domain, PSTN: line.GetPstn(), Listed: line.GetListed(), PrivateID: line.GetPrivateId(), Password: line.Password,
	}
	if len(line.PrivateIDs) > 0 {
		out.PrivateID = line.PrivateIDs[0]
	}
	return out
}

// formatNumber writes ten-digit numbers as (650) 555-0000 and leaves others as they are.
func formatNumber(user string) string {
	digits, prefix := user, ""
	if rest, ok := strings.CutPrefix(user, "+1"); ok {
		digits, prefix = rest, "+1 "
	}
	if len(digits) != 10 || strings.Trim(digits, "0123456789") != "" {
		return user
	}
	return prefix + "(" + digits[:3] + ") " + digits[3:6] + "-" + digits[6:]
}
