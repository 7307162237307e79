package regevent

import (
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
)

// authorised tells who may know the state of a user (TS 24.229 5.4.2.1.1): the user, a P-CSCF in the Path of one of its
// bindings, and its application servers. Who asks is told by P-Asserted-Identity alone; From proves nothing.
func authorised(m *sip.Message, p *subscriber.Profile, record *registrations.Record) bool {
	for _, value := range m.All(sip.PAssertedIdentity) {
		u, err := sip.AddressURI(value)
		if err != nil {
			continue
		}
		if id, ok := p.Find(u.Canonical()); ok && !id.Barred || onPath(u, record) || serves(u, p) {
			return true
		}
	}
	return false
}

func onPath(u sip.URI, record *registrations.Record) bool {
	for _, b := range record.GetBindings() {
		for _, value := range b.GetPath() {
			if hop, err := sip.AddressURI(value); err == nil && u.User == "" && sameHost(u, hop) {
				return true
			}
		}
	}
	return false
}

func serves(u sip.URI, p *subscriber.Profile) bool {
	for i := range p.Services {
		for j := range p.Services[i].Criteria {
			server, err := sip.ParseURI(p.Services[i].Criteria[j].Server.Name)
			if err == nil && server.User == u.User && sameHost(u, server) {
				return true
			}
		}
	}
	return false
}

// sameHost compares hosts, and ports where both are given.
func sameHost(a, b sip.URI) bool {
	return a.Host != "" && strings.EqualFold(a.Host, b.Host) && (a.Port == 0 || b.Port == 0 || a.Port == b.Port)
}
