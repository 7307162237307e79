package pcscf

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// dialogLife is how long a call is believed to last when nothing refreshes it and no session timer runs.
const dialogLife = 24 * time.Hour

// dialogKey is one phone's part in one call.
type dialogKey struct {
	callID string
	flow   transport.ID
}

// dialogs counts the calls that this edge carries, so that a drain can wait for them. Nothing is routed by it.
type dialogs struct {
	mu    sync.Mutex
	until map[dialogKey]time.Time
}

func (d *dialogs) init() { d.until = map[dialogKey]time.Time{} }

func (d *dialogs) keep(k dialogKey, until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until[k] = until
}

func (d *dialogs) end(k dialogKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.until, k)
}

func (d *dialogs) held() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.until))
}

// sweep forgets calls whose time is over and those of connections that have closed.
func (d *dialogs) sweep(now time.Time, alive func(transport.ID) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, until := range d.until {
		if now.After(until) || !alive(k.flow) {
			delete(d.until, k)
		}
	}
}

// track follows INVITE dialogs by their responses: a 2xx keeps a call, any answer to a BYE ends it.
func (h *handler) track(m *sip.Message) {
	if h.dialog.callID == "" || m.Status < 200 {
		return
	}
	switch {
	case h.method == sip.BYE:
		h.edge.dialogs.end(h.dialog)
	case (h.method == sip.INVITE || h.method == sip.UPDATE) && m.Status < 300:
		h.edge.dialogs.keep(h.dialog, h.edge.deps.Now().Add(sessionLife(m)))
	}
}

// sessionLife is what Session-Expires grants (RFC 4028), with some slack.
func sessionLife(m *sip.Message) time.Duration {
	value, _, _ := strings.Cut(m.Get(sip.SessionExpires), ";")
	if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31); err == nil && n > 0 {
		return time.Duration(n)*time.Second + time.Minute
	}
	return dialogLife
}
