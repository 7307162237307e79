package scscf

import (
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
)

// assertBoth gives a message with one asserted identity of a user of ours the other form too, a number to the address
// and an address to the number (TS 24.229 5.4.3.2 step 4a, 5.4.3.3).
func (h *handler) assertBoth(m *sip.Message, p *subscriber.Profile) {
	if m.Count(sip.PAssertedIdentity) != 1 {
		return
	}
	u, err := sip.AddressURI(m.Get(sip.PAssertedIdentity))
	if err != nil {
		return
	}
	own, ok := p.Find(u.Canonical())
	if !ok {
		return
	}
	if u.Scheme == "tel" {
		m.Add(sip.PAssertedIdentity, "<sip:"+u.Number()+"@"+h.names.HomeDomain()+";user=phone>")
		return
	}
	second := ""
	for _, id := range p.Identities {
		if id.Barred || !strings.HasPrefix(id.Key, "tel:") {
			continue
		}
		if second == "" || p.Aliases(own, id) {
			second = id.URI
		}
		if p.Aliases(own, id) {
			break
		}
	}
	if second != "" {
		m.Add(sip.PAssertedIdentity, "<"+second+">")
	}
}
