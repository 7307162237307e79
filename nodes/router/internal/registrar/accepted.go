package registrar

import (
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/subscriber"
)

// accepted is the 200 of TS 24.229 5.4.1.2.2F.
func (r *Registrar) accepted(a *attempt, profile *subscriber.Profile, record *registrations.Record, now time.Time) *sip.Message {
	ok := a.m.NewResponse(200, "", newTag())
	main := "" // of GRUUs; without it there are none
	if id, ok := profile.Default(); ok && a.m.HasOption(sip.Supported, "gruu") {
		main = id.URI
	}
	for _, b := range record.GetBindings() {
		value := contactValue(b, now)
		if gruu := PublicGRUU(main, b); gruu != "" {
			value += `;pub-gruu="` + gruu + `"`
		}
		ok.Add(sip.Contact, value)
	}
	for _, p := range a.m.All(sip.Path) {
		ok.Add(sip.Path, p)
	}
	ok.Add(sip.ServiceRoute, a.serviceRoute())
	for _, id := range profile.Unbarred() {
		ok.Add(sip.PAssociatedURI, "<"+id+">")
	}
	ok.Add(sip.Supported, "outbound, path")
	if outbound(a.m) {
		ok.Add(sip.Require, "outbound")
	}
	if v := chargingFunctions(a.known.GetRegData()); v != "" {
		ok.Add(sip.PChargingFunctionAddresses, v)
	}
	return ok
}

// outbound tells whether RFC 5626 is in force for the registration (its section 6): the edge put ob into its Path, and the
// phone registers with an instance, a reg-id and says it supports it.
func outbound(m *sip.Message) bool {
	if !m.Has(sip.Path) || !m.HasOption(sip.Supported, "outbound") {
		return false
	}
	path, err := sip.AddressURI(m.Get(sip.Path))
	if err != nil {
		return false
	}
	if _, ob := path.Param("ob"); !ob {
		return false
	}
	for _, v := range m.All(sip.Contact) {
		a, err := sip.ParseAddress(v)
		if err != nil {
			continue
		}
		_, instance := sip.Param(a.Params, "+sip.instance")
		_, reg := sip.Param(a.Params, "reg-id")
		if instance && reg {
			return true
		}
	}
	return false
}

func chargingFunctions(d *hss.RegData) string {
	var parts []string
	for _, ccf := range d.GetCcfs() {
		parts = append(parts, `ccf="`+ccf+`"`)
	}
	for _, ecf := range d.GetEcfs() {
		parts = append(parts, `ecf="`+ecf+`"`)
	}
	return strings.Join(parts, ";")
}
