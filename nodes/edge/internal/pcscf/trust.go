package pcscf

import (
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// stripUntrusted takes out of a message of a phone what only the core may say (TS 24.229 4.4, 5.2.6.3; RFC 3325 5),
// by name and by shape: P- headers that nobody here knows go too, save the few that are a phone's to write.
func (h *handler) stripUntrusted(m *sip.Message) {
	kept := m.Headers[:0]
	for _, hd := range m.Headers {
		switch hd.ID {
		case sip.PServedUser, sip.PChargingVector, sip.PChargingFunctionAddresses, sip.PVisitedNetworkID, sip.PProfileKey,
			sip.PUserDatabase, sip.PAssertedService, sip.PCalledPartyID, sip.PAssociatedURI, sip.ServiceRoute,
			sip.SecurityClient, sip.SecurityServer, sip.SecurityVerify, sip.ResourcePriority:
			continue
		case sip.Other:
			if foreign(hd.Name) {
				continue
			}
		}
		kept = append(kept, hd)
	}
	m.Headers = kept
	// These mean something only where the core has put them.
	if u, err := sip.ParseURI(m.URI); m.IsRequest() && err == nil && u.Params != "" {
		m.URI = u.WithoutParam("orig").WithoutParam("lr").String()
	}
	if m.IsRequest() && m.Method != sip.REGISTER { // the edge's own word to the S-CSCF
		without(m, sip.ProxyAuthorization, "integrity-protected")
		without(m, sip.Authorization, "integrity-protected")
	}
	// Security agreement ends here; further in nobody understands the tag (RFC 3329 2.3.1).
	m.DelOption(sip.Require, "sec-agree")
	m.DelOption(sip.ProxyRequire, "sec-agree")
}

// foreign tells a P- header that has no business at this boundary. P-Early-Media and the like pass.
func foreign(name string) bool {
	if len(name) < 2 || (name[0] != 'P' && name[0] != 'p') || name[1] != '-' {
		return false
	}
	switch strings.ToLower(name) {
	case "p-early-media", "p-preferred-service", "p-answer-state", "p-media-authorization", "p-dcs-trace-party-id":
		return false
	}
	return true
}

// stripToPhone takes out of a message what phones must not see (B.9; RFC 7315 5.7; RFC 3325 7).
func stripToPhone(m *sip.Message) {
	m.Del(sip.PAccessNetworkInfo, sip.PVisitedNetworkID, sip.PServedUser, sip.Authorization, sip.ProxyAuthorization,
		sip.PChargingVector, sip.PChargingFunctionAddresses, sip.PProfileKey, sip.PUserDatabase, sip.PAssertedService)
	for token := range strings.SplitSeq(m.Get(sip.Privacy), ";") {
		if strings.EqualFold(strings.TrimSpace(token), "id") {
			m.Del(sip.PAssertedIdentity)
			return
		}
	}
}

// charge names the charging functions and correlates what a session costs (TS 24.229 5.2.7.2, RFC 7315 4.6).
func (h *handler) charge(m *sip.Message) {
	m.Del(sip.PChargingFunctionAddresses)
	if h.set.cdf != "" {
		m.Set(sip.PChargingFunctionAddresses, "ccf="+h.set.cdf)
	}
	icid := strings.Map(func(r rune) rune {
		if r == '@' || r == '"' || r == '\\' || r < ' ' || r > '~' {
			return -1
		}
		return r
	}, m.CallID())
	m.Set(sip.PChargingVector, `icid-value="`+icid+`";icid-generated-at=`+h.set.publicHost+`;orig-ioi=`+h.set.home)
}
