package cx

import (
	"crypto/md5" //nolint:gosec // HA1 of RFC 2617 is MD5
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

// resultCode is a Result-Code, or the code of an Experimental-Result.
type resultCode struct {
	code         uint32
	experimental bool
}

func (c resultCode) String() string { return fmt.Sprint(c.code) }

// Experimental-Result-Codes of Cx (TS 29.229 6.2); those of success are in package hss.
const (
	errorUserUnknown          uint32 = 5001
	errorIdentitiesDontMatch  uint32 = 5002
	errorNotRegistered        uint32 = 5003
	errorRoamingNotAllowed    uint32 = 5004
	errorAlreadyRegistered    uint32 = 5005
	errorSchemeNotSupported   uint32 = 5006
	errorInAssignmentType     uint32 = 5007
	errorNotSupportedUserData uint32 = 5009

	serverSelection       uint32 = 2004
	authorizationRejected uint32 = 5003 // a Result-Code of the base protocol
)

// result maps a code to what the router acts on. Only what the HSS says of the user refuses him; whatever else goes wrong
// is an outage (TS 24.229 5.3.1.2), and becomes no 403.
func (c resultCode) result() hss.Result {
	switch {
	case c.experimental && c.code >= 2001 && c.code <= serverSelection, !c.experimental && (c.code == wire.Success || c.code == wire.LimitedSuccess):
		return hss.Result_RESULT_OK
	case !c.experimental && c.code == authorizationRejected:
		return hss.Result_RESULT_BARRED
	case !c.experimental:
		return hss.Result_RESULT_UNAVAILABLE
	}
	switch c.code {
	case errorUserUnknown, errorIdentitiesDontMatch:
		return hss.Result_RESULT_UNKNOWN
	case errorNotRegistered:
		return hss.Result_RESULT_NOT_REGISTERED
	case errorRoamingNotAllowed:
		return hss.Result_RESULT_ROAMING_REFUSED
	case errorSchemeNotSupported:
		return hss.Result_RESULT_UNSUPPORTED_SCHEME
	}
	return hss.Result_RESULT_UNAVAILABLE
}

// readCode takes the result of an answer; false if it has none or its AVPs do not fit.
func readCode(m wire.Message) (c resultCode, ok bool) {
	s := m.AVPs()
	for s.Next() {
		switch s.Kind {
		case wire.ResultCode &^ wire.Mandatory:
			c.code, ok = wire.Number(s.Data)
		case wire.ExperimentalResult &^ wire.Mandatory:
			if data, there := wire.Find(s.Data, wire.ExperimentalResultCode); there {
				c.experimental = true
				c.code, ok = wire.Number(data)
			}
		}
	}
	return c, ok && s.Err() == nil
}

// server is what UAA and LIA tell of the S-CSCF.
type server struct {
	code         int32
	name         string
	capabilities *hss.Capabilities
	wildcard     string
}

func readServer(m wire.Message) server {
	var a server
	preferred := ""
	for s := m.AVPs(); s.Next(); {
		switch s.Kind {
		case wire.ServerName &^ wire.Mandatory:
			a.name = string(s.Data)
		case wire.WildcardedPublicIdentity &^ wire.Mandatory:
			a.wildcard = string(s.Data)
		case wire.ServerCapabilities &^ wire.Mandatory:
			a.capabilities, preferred = readCapabilities(s.Data)
		}
	}
	code, _ := readCode(m)
	if a.code = hss.FirstRegistration; code.code == uint32(hss.SubsequentRegistration) || code.code == uint32(hss.UnregisteredService) {
		a.code = int32(code.code) //nolint:gosec // one of the two
	}
	if a.name == "" {
		a.name = preferred // TS 29.229 6.3.4: S-CSCFs that the HSS would choose
	}
	return a
}

func readCapabilities(data []byte) (c *hss.Capabilities, preferred string) {
	c = &hss.Capabilities{}
	for s := wire.Group(data); s.Next(); {
		n, ok := wire.Number(s.Data)
		switch {
		case ok && s.Kind.Is(wire.MandatoryCapability):
			c.Mandatory = append(c.Mandatory, int32(n)) //nolint:gosec // operators number from 0
		case ok && s.Kind.Is(wire.OptionalCapability):
			c.Optional = append(c.Optional, int32(n)) //nolint:gosec // as above
		case s.Kind.Is(wire.ServerName) && preferred == "":
			preferred = string(s.Data)
		}
	}
	return c, preferred
}

// item is a SIP-Auth-Data-Item, in place.
type item struct {
	scheme, authenticate, authorization, ck, ik, digest []byte
}

func readItem(data []byte) (i item) {
	for s := wire.Group(data); s.Next(); {
		switch s.Kind {
		case wire.SIPAuthenticationScheme &^ wire.Mandatory:
			i.scheme = s.Data
		case wire.SIPAuthenticate &^ wire.Mandatory:
			i.authenticate = s.Data
		case wire.SIPAuthorization &^ wire.Mandatory:
			i.authorization = s.Data
		case wire.ConfidentialityKey &^ wire.Mandatory:
			i.ck = s.Data
		case wire.IntegrityKey &^ wire.Mandatory:
			i.ik = s.Data
		case wire.SIPDigestAuthenticate &^ wire.Mandatory:
			i.digest = s.Data
		}
	}
	return i
}

// readVector takes authentication data from an MAA: AKA, HA1, or, as some HSSs send, the password itself.
func readVector(m wire.Message, impi string, s Settings, resp *hss.AuthorizeResponse) *refusal {
	data, ok := m.Find(wire.SIPAuthDataItem)
	if !ok {
		return &refusal{result: hss.Result_RESULT_UNSUPPORTED_SCHEME, detail: "mar: the HSS sends no authentication data"}
	}
	i := readItem(data)
	scheme := string(i.scheme)
	switch {
	case i.digest != nil:
		resp.Digest = readDigest(i.digest, s)
		if len(resp.Digest.GetHa1()) != 2*md5.Size {
			return &refusal{result: hss.Result_RESULT_UNAVAILABLE, detail: "mar: the Digest-HA1 of the HSS is not that of MD5"}
		}
		return nil
	case strings.HasPrefix(scheme, "Digest-AKA"):
		if len(i.authenticate) != 32 || len(i.authorization) < 4 || len(i.ck) != 16 || len(i.ik) != 16 {
			return &refusal{result: hss.Result_RESULT_UNAVAILABLE, detail: "mar: the AKA vector of the HSS is malformed"}
		}
		resp.Aka = &hss.Aka{
			Challenge: base64.StdEncoding.EncodeToString(i.authenticate), Response: hex.EncodeToString(i.authorization),
			CryptKey: hex.EncodeToString(i.ck), IntegrityKey: hex.EncodeToString(i.ik), Version: 1,
		}
		if strings.HasPrefix(scheme, "Digest-AKAv2") {
			resp.Aka.Version = 2
		}
		return nil
	case len(i.authorization) > 0 && (scheme == s.Schemes.Digest || strings.EqualFold(scheme, "SIP Digest") || strings.EqualFold(scheme, "Digest-MD5")):
		sum := md5.Sum([]byte(impi + ":" + s.HomeDomain + ":" + string(i.authorization))) //nolint:gosec // see above
		resp.Digest = &hss.Digest{Ha1: hex.EncodeToString(sum[:]), Realm: s.HomeDomain, Qop: "auth"}
		return nil
	}
	return &refusal{result: hss.Result_RESULT_UNSUPPORTED_SCHEME, detail: fmt.Sprintf("mar: the scheme %q of the HSS is not known", scheme)}
}

func readDigest(data []byte, s Settings) *hss.Digest {
	d := &hss.Digest{Realm: s.HomeDomain, Qop: "auth"}
	for in := wire.Group(data); in.Next(); {
		switch {
		case in.Kind.Is(wire.DigestHA1):
			d.Ha1 = string(in.Data)
		case in.Kind.Is(wire.DigestRealm) && len(in.Data) > 0:
			d.Realm = string(in.Data)
		case in.Kind.Is(wire.DigestQoP) && len(in.Data) > 0:
			d.Qop = string(in.Data)
		}
	}
	return d
}

// readSubscription takes profile and charging functions from an SAA or PPR.
func readSubscription(m wire.Message) (*Subscription, *refusal) {
	next := &Subscription{}
	for s := m.AVPs(); s.Next(); {
		switch s.Kind {
		case wire.UserData &^ wire.Mandatory:
			next.Profile = string(s.Data)
		case wire.ChargingInformation &^ wire.Mandatory:
			next.Ccfs, next.Ecfs = readCharging(s.Data)
		}
	}
	if next.GetProfile() == "" {
		return next, &refusal{result: hss.Result_RESULT_UNAVAILABLE, detail: "sar: the HSS sends no profile"}
	}
	return next, nil
}

// readCharging lists charging functions, the primary first.
func readCharging(data []byte) (ccfs, ecfs []string) {
	var names [4]string // CCF, second CCF, ECF, second ECF
	for s := wire.Group(data); s.Next(); {
		for i, kind := range []wire.Attribute{wire.PrimaryCharging, wire.SecondaryCharging, wire.PrimaryEventCharging, wire.SecondaryEventCharging} {
			if s.Kind.Is(kind) {
				names[i] = string(s.Data)
			}
		}
	}
	for i, name := range names {
		switch {
		case name != "" && i < 2:
			ccfs = append(ccfs, name)
		case name != "":
			ecfs = append(ecfs, name)
		}
	}
	return ccfs, ecfs
}
