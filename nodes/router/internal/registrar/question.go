package registrar

import (
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/emergency"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/authn"
)

// Question is what the HSS is asked about a REGISTER. The I-CSCF asks it once for itself and the S-CSCF.
func Question(m *sip.Message, home string) (*hss.AuthorizeRequest, error) {
	to, err := sip.AddressURI(m.Get(sip.To))
	if err != nil {
		return nil, err
	}
	credentials, err := authn.Parse(m.Get(sip.Authorization))
	if err != nil {
		return nil, err
	}
	impi := credentials.Username
	if impi == "" {
		impi = strings.TrimPrefix(to.Canonical(), to.Scheme+":")
	}
	visited := strings.Trim(m.Get(sip.PVisitedNetworkID), `"`)
	if visited == "" {
		visited = home
	}
	kind := "REG"
	if deregisters(m) {
		kind = "DEREG"
	}
	return &hss.AuthorizeRequest{Impi: impi, Impu: to.Canonical(), VisitedNetwork: visited, AuthType: kind, Scheme: scheme(credentials), WantVector: wantsVector(credentials), WantProfile: true, Emergency: emergency.Registration(m)}, nil
}

// deregisters tells a REGISTER that only removes bindings.
func deregisters(m *sip.Message) bool {
	some := false
	for i := range m.Headers {
		if m.Headers[i].ID != sip.Contact {
			continue
		}
		v := m.Headers[i].Value
		a, err := sip.ParseAddress(v)
		if v != "*" && (err != nil || lifetime(a.Params, m.Expires(-1), time.Hour) > 0) {
			return false
		}
		some = true
	}
	return some
}

// Question is what the HSS is asked about a REGISTER under these settings.
func (s *Settings) Question(m *sip.Message) (*hss.AuthorizeRequest, error) {
	q, err := Question(m, s.Names.HomeDomain())
	if err == nil && s.AcceptAll {
		q.WantVector, q.Scheme = false, ""
	}
	return q, err
}

// RefusalOf maps a result to the status of a REGISTER, 0 when it may go on. An outage is never a 403 (TS 24.229 5.3.1).
func RefusalOf(result hss.Result) int {
	switch result {
	case hss.Result_RESULT_OK:
		return 0
	case hss.Result_RESULT_UNAVAILABLE, hss.Result_RESULT_TIMEOUT:
		return 504
	case hss.Result_RESULT_UNKNOWN, hss.Result_RESULT_ROAMING_REFUSED, hss.Result_RESULT_BARRED, hss.Result_RESULT_UNSUPPORTED_SCHEME, hss.Result_RESULT_RESYNC_REFUSED:
		return 403
	case hss.Result_RESULT_NOT_REGISTERED:
		return 480
	}
	return 500
}
