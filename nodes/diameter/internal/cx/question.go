package cx

import (
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

// noStateMaintained is the only Auth-Session-State of Cx (TS 29.229 6.1).
const noStateMaintained = 1

// featureShared is the SiFC bit of Feature-List 1 (TS 29.229 7.1.1).
const featureShared = 1

// begin is what all requests share.
func begin(p Peers, s Settings, command uint32) *wire.Builder {
	b := wire.NewRequest(make([]byte, 0, 768), command, wire.Cx, wire.FlagProxiable).Text(wire.SessionID, p.SessionID()).
		Begin(wire.VendorSpecificApplicationID).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.AuthApplicationID, wire.Cx).End().
		Uint32(wire.AuthSessionState, noStateMaintained).
		Text(wire.OriginHost, p.Host()).Text(wire.OriginRealm, p.Realm()).Text(wire.DestinationRealm, s.Realm)
	if s.Host != "" {
		b.Text(wire.DestinationHost, s.Host)
	}
	return b
}

// User-Authorization-Type (TS 29.229 6.3.24).
func authorizationType(kind string) uint32 {
	switch kind {
	case "DEREG":
		return 1
	case "CAPAB":
		return 2
	}
	return 0
}

// userAuthorization makes a UAR (TS 29.229 6.1.1).
func userAuthorization(p Peers, s Settings, req *hss.AuthorizeRequest) *wire.Builder {
	b := begin(p, s, wire.UserAuthorization).Text(wire.UserName, req.GetImpi()).Text(wire.PublicIdentity, req.GetImpu()).
		Text(wire.VisitedNetworkIdentifier, req.GetVisitedNetwork()).Uint32(wire.UserAuthorizationType, authorizationType(req.GetAuthType()))
	if req.GetEmergency() {
		b.Uint32(wire.UARFlags, 1) // TS 29.229 6.3.46: IMS emergency registration
	}
	return b
}

// scheme is the name under which the HSS knows a scheme.
func (n Schemes) scheme(asked string) string {
	switch asked {
	case "digest":
		return n.Digest
	case "aka":
		return n.AKAv1
	case "aka2":
		return n.AKAv2
	}
	return n.Unknown
}

// multimediaAuth makes a MAR (TS 29.229 6.1.7). What a card says when it is out of step is RAND || AUTS (TS 29.228 6.3).
func multimediaAuth(p Peers, s Settings, req *hss.AuthorizeRequest) *wire.Builder {
	b := begin(p, s, wire.MultimediaAuth).Text(wire.UserName, req.GetImpi()).Text(wire.PublicIdentity, req.GetImpu()).
		Begin(wire.SIPAuthDataItem).Text(wire.SIPAuthenticationScheme, s.Schemes.scheme(req.GetScheme()))
	if len(req.GetResync()) > 0 {
		b.Bytes(wire.SIPAuthorization, req.GetResync())
	}
	return b.End().Uint32(wire.SIPNumberAuthItems, 1).Text(wire.ServerName, s.ServerName)
}

// serverAssignment makes a SAR (TS 29.229 6.1.3).
func serverAssignment(p Peers, s Settings, req *hss.AssignRequest, kind uint32) *wire.Builder {
	b := begin(p, s, wire.ServerAssignment)
	if req.GetImpi() != "" {
		b.Text(wire.UserName, req.GetImpi())
	}
	b.Text(wire.PublicIdentity, req.GetImpu())
	if req.GetWildcard() != "" {
		b.Text(wire.WildcardedPublicIdentity, req.GetWildcard())
	}
	b.Text(wire.ServerName, s.ServerName).Uint32(wire.ServerAssignmentType, kind).Uint32(wire.UserDataAlreadyAvailable, 0)
	return supported(b, s.SharedIFCs)
}

// supported tells that sets of shared iFCs are understood.
func supported(b *wire.Builder, shared bool) *wire.Builder {
	if shared {
		b.Begin(wire.SupportedFeatures).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.FeatureListID, 1).Uint32(wire.FeatureList, featureShared).End()
	}
	return b
}

// locationInfo makes a LIR (TS 29.229 6.1.5).
func locationInfo(p Peers, s Settings, req *hss.LocateRequest) *wire.Builder {
	b := begin(p, s, wire.LocationInfo)
	if req.GetOriginating() {
		b.Uint32(wire.OriginatingRequest, 0)
	}
	b.Text(wire.PublicIdentity, req.GetImpu())
	if strings.EqualFold(req.GetAuthType(), "CAPAB") {
		b.Uint32(wire.UserAuthorizationType, 2)
	}
	return b
}
