package authn

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // RFC 3310 and RFC 4169 are digests by MD5
	"encoding/base64"
	"strconv"
	"strings"
)

// AKA is what an answer to a challenge by AKA is checked with (RFC 3310, RFC 4169).
type AKA struct {
	Version      int32 // 1: AKAv1-MD5, 2: AKAv2-MD5
	XRES, CK, IK []byte
}

// Algorithm is the name of a version of digest AKA.
func Algorithm(version int32) string { return "AKAv" + strconv.Itoa(int(version)) + "-MD5" }

// AKAVersion tells which version of digest AKA the algorithm names, 0 when it is another one.
func (c Credentials) AKAVersion() int32 {
	switch {
	case len(c.Algorithm) != len("AKAv1-MD5"):
		return 0
	case strings.EqualFold(c.Algorithm, "AKAv1-MD5"):
		return 1
	case strings.EqualFold(c.Algorithm, "AKAv2-MD5"):
		return 2
	}
	return 0
}

// password is RES (RFC 3310 3.3), and for the second version a key made of RES, IK and CK (RFC 4169 3).
func (a AKA) password() string {
	if a.Version == 1 {
		return string(a.XRES)
	}
	key := make([]byte, 0, len(a.XRES)+len(a.IK)+len(a.CK))
	key = append(append(append(key, a.XRES...), a.IK...), a.CK...)
	h := hmac.New(md5.New, key)
	h.Write([]byte("http-digest-akav2-password"))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// CheckAKA verifies the response to a challenge of a realm.
func (c Credentials) CheckAKA(a AKA, realm, method string) error {
	if c.Response == "" {
		return ErrNone
	}
	if c.AKAVersion() != a.Version || len(a.XRES) == 0 || c.Realm != realm {
		return ErrWrong
	}
	return c.check(digest(c.Username, realm, a.password()), method)
}

// ChallengeAKA is the WWW-Authenticate value of a challenge; ck and ik are hex and meant for the P-CSCF (TS 24.229
// 5.4.1.2.1A), which takes them out.
func ChallengeAKA(realm, nonce string, version int32, ck, ik string, stale bool) string {
	s := `Digest realm="` + realm + `",nonce="` + nonce + `",opaque="` + opaque + `",algorithm=` + Algorithm(version) + `,qop="auth",ck="` + ck + `",ik="` + ik + `"`
	if stale {
		s += ",stale=true"
	}
	return s
}
