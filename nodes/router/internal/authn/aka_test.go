package authn

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Passwords and responses were computed with OpenSSL from the values of test set 1 of TS 35.208.
func TestAKA(t *testing.T) {
	xres, ck, ik := unhex(t, "a54211d5e3ba50bf"), unhex(t, "b40ba9a3c58b2a05bbf0d987b21bf8cb"), unhex(t, "f769bcd751044604127672711c6d3441")
	for version, response := range map[int32]string{1: "67d621631ebbf5dbcfdb574adcc09ee5", 2: "ee35b929fa2a2281a07fc6fae125fc5b"} {
		a := AKA{Version: version, XRES: xres, CK: ck, IK: ik}
		c := Credentials{
			Username: "alice@ims.test", Realm: "ims.test", Nonce: "bm9uY2U=", URI: "sip:ims.test", QOP: "auth", NC: "00000001", CNonce: "cn",
			Algorithm: Algorithm(version), Response: response,
		}
		if err := c.CheckAKA(a, "ims.test", "REGISTER"); err != nil {
			t.Errorf("version %d: %v", version, err)
		}
		for name, change := range map[string]func(*Credentials, *AKA){
			"response": func(c *Credentials, _ *AKA) { c.Response = strings.Repeat("0", 32) }, "realm": func(c *Credentials, _ *AKA) { c.Realm = "other.test" },
			"user": func(c *Credentials, _ *AKA) { c.Username = "bob@ims.test" }, "nonce": func(c *Credentials, _ *AKA) { c.Nonce = "bm9uY2V=" },
			"algorithm MD5": func(c *Credentials, _ *AKA) { c.Algorithm = "MD5" }, "the other version": func(c *Credentials, _ *AKA) { c.Algorithm = Algorithm(3 - version) },
			"XRES": func(_ *Credentials, a *AKA) { a.XRES = ck[:8] }, "no XRES": func(_ *Credentials, a *AKA) { a.XRES = nil },
		} {
			c, a := c, a
			change(&c, &a)
			if err := c.CheckAKA(a, "ims.test", "REGISTER"); !errors.Is(err, ErrWrong) {
				t.Errorf("version %d, another %s: %v", version, name, err)
			}
		}
		if err := c.Check(digest("alice@ims.test", "ims.test", a.password()), "REGISTER"); !errors.Is(err, ErrWrong) {
			t.Errorf("version %d passes for MD5: %v", version, err)
		}
		c.Response = ""
		if err := c.CheckAKA(a, "ims.test", "REGISTER"); !errors.Is(err, ErrNone) {
			t.Errorf("no response: %v", err)
		}
	}
}

func TestAKAVersion(t *testing.T) {
	for text, want := range map[string]int32{"": 0, "MD5": 0, "AKAv1-MD5": 1, "akav1-md5": 1, "AKAv2-MD5": 2, "AKAv3-MD5": 0, "AKAv1-SHA-256": 0} {
		if got := (Credentials{Algorithm: text}).AKAVersion(); got != want {
			t.Errorf("%s: %d", text, got)
		}
	}
	const want = `Digest realm="ims.test",nonce="n==",opaque="clearwater",algorithm=AKAv2-MD5,qop="auth",ck="0c",ik="01",stale=true`
	if got := ChallengeAKA("ims.test", "n==", 2, "0c", "01", true); got != want {
		t.Errorf("challenge %s", got)
	}
}
