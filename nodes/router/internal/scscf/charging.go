package scscf

import (
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// stampNetwork names the network of a served user in the P-Charging-Vector of a request as orig-ioi or term-ioi (RFC 7315
// 5.6).
func (h *handler) stampNetwork(m *sip.Message, parameter, served string) {
	if vector := m.Get(sip.PChargingVector); vector != "" {
		m.Set(sip.PChargingVector, h.inNetwork(vector, parameter, served))
	}
}

func (h *handler) inNetwork(vector, parameter, served string) string {
	if vector == "" {
		return ""
	}
	ioi := h.names.HomeDomain()
	if u, err := sip.ParseURI(served); err == nil && u.Host != "" {
		ioi = u.Host
	}
	return sip.SetParam(";"+vector, parameter, ioi)[1:]
}

// charge gives a response the charging vector of its request with the network that answers (TS 24.229 5.4.3.3): the icid
// is one from end to end. What others have said besides stays.
func (h *handler) charge(m *sip.Message) {
	if h.charged == "" || m.Status <= 100 {
		return
	}
	vector := ";" + h.charged
	sip.Params(";"+m.Get(sip.PChargingVector), func(name, value string) bool {
		if _, known := sip.Param(vector, name); !known && name != "" {
			vector = sip.SetParam(vector, name, value)
		}
		return true
	})
	m.Set(sip.PChargingVector, vector[1:])
}
