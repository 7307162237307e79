package scscf

import (
	"strconv"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
)

// Sessions are the settings of session timers (RFC 4028): phones are made to refresh their dialogs, so that those of a
// phone that has vanished end.
type Sessions struct {
	Default time.Duration // for requests that ask for none (default_session_expires)
	Longest time.Duration // max_session_expires; a caller's Min-SE goes before it
}

// shortest is the least interval in seconds that there may be (RFC 4028 4).
const shortest = 90

// sessionTimer is what a request that begins or refreshes a session was sent on with.
type sessionTimer struct {
	seconds int  // 0: none
	caller  bool // the caller understands session timers
}

// timeSession sets the session interval of an INVITE, and bounds that of an UPDATE that has one (RFC 4028 8.1). False: the
// interval is too short, and the caller understands the refusal.
func (h *handler) timeSession(r *proxy.Request) (refusal proxy.Decision, ok bool) {
	m := r.Msg
	if m.Method != sip.INVITE && (m.Method != sip.UPDATE || !m.Has(sip.SessionExpires)) {
		return refusal, true
	}
	s := h.deps.Sessions()
	h.timer = sessionTimer{caller: m.HasOption(sip.Supported, "timer")}
	least, _, _ := interval(m.Get(sip.MinSE))
	asked, params, given := interval(m.Get(sip.SessionExpires))
	longest := max(int(s.Longest/time.Second), least)
	switch {
	case !given:
		asked, params = max(min(int(s.Default/time.Second), longest), least), ""
	case asked < shortest && h.timer.caller:
		answer := m.NewResponse(422, "", transaction.NewTag())
		answer.Add(sip.MinSE, strconv.Itoa(shortest))
		return proxy.AnswerWith(answer), false
	case asked < shortest: // a proxy before us was wrong
		asked = shortest
		m.Set(sip.MinSE, strconv.Itoa(shortest))
	}
	h.timer.seconds = min(asked, longest)
	m.Set(sip.SessionExpires, strconv.Itoa(h.timer.seconds)+params)
	return refusal, true
}

// timed takes a 2xx: where the callee knows nothing of session timers the caller refreshes alone (RFC 4028 8.2).
func (h *handler) timed(m *sip.Message) {
	if h.timer.seconds == 0 || !h.timer.caller || m.Status < 200 || m.Status > 299 || m.Has(sip.SessionExpires) {
		return
	}
	m.Set(sip.SessionExpires, strconv.Itoa(h.timer.seconds)+";refresher=uac")
	if !m.HasOption(sip.Require, "timer") {
		m.Add(sip.Require, "timer")
	}
}

// interval reads Session-Expires and Min-SE: seconds and parameters. What is malformed counts as absent.
func interval(value string) (seconds int, params string, ok bool) {
	number, params := value, ""
	if i := strings.IndexByte(value, ';'); i >= 0 {
		number, params = value[:i], value[i:]
	}
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 31)
	if err != nil {
		return 0, "", false
	}
	return int(n), params, true //nolint:gosec // 31 bits
}
