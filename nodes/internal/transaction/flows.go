package transaction

import (
	"strings"
	"sync"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
)

// flows knows the client transactions that wait on each connection, so that its end reaches them at once.
type flows struct {
	mu sync.Mutex
	m  map[Flow]map[*Client]struct{}
}

func (fs *flows) init() { fs.m = map[Flow]map[*Client]struct{}{} }

func (fs *flows) add(c *Client) {
	if !c.flow.Reliable() {
		return
	}
	fs.mu.Lock()
	waiting, known := fs.m[c.flow]
	if !known {
		waiting = map[*Client]struct{}{}
		fs.m[c.flow] = waiting
	}
	waiting[c] = struct{}{}
	fs.mu.Unlock()
	if !known {
		flow := c.flow
		flow.OnClose(func() { go fs.closed(flow) })
	}
}

func (fs *flows) remove(c *Client) {
	if !c.flow.Reliable() {
		return
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	delete(fs.m[c.flow], c)
}

// closed ends every transaction that waits on the flow.
func (fs *flows) closed(f Flow) {
	fs.mu.Lock()
	waiting := fs.m[f]
	delete(fs.m, f)
	fs.mu.Unlock()
	for c := range waiting {
		c.Lost()
	}
}

// viaTransport is the transport as Via writes it.
func viaTransport(f Flow) string {
	switch f.Transport() {
	case resolve.UDP:
		return "UDP"
	case resolve.TCP:
		return "TCP"
	case resolve.TLS:
		return "TLS"
	default:
		return strings.ToUpper(f.Transport().String())
	}
}
