package authn

import (
	"errors"
	"strings"
	"testing"
	"testing/quick"
	"time"
)

// The example of RFC 2617 3.5.
const mufasa = `Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html",
 qop=auth, nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"`

var mufasaHA1 = digest("Mufasa", "testrealm@host.com", "Circle Of Life")

func TestExampleOfRFC2617(t *testing.T) {
	c, err := Parse(strings.ReplaceAll(mufasa, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	want := Credentials{
		Username: "Mufasa", Realm: "testrealm@host.com", Nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093", URI: "/dir/index.html", QOP: "auth", NC: "00000001",
		CNonce: "0a4f113b", Response: "6629fae49393a05397450978507c4ef1", Opaque: "5ccc069c403ebaf9f0171e9517f40e41",
	}
	if c != want {
		t.Errorf("read as %+v", c)
	}
	if err := c.Check(mufasaHA1, "GET"); err != nil {
		t.Error(err)
	}
	if err := c.Check(strings.ToUpper(mufasaHA1), "GET"); err != nil {
		t.Errorf("upper case HA1: %v", err)
	}
	for name, change := range map[string]func(*Credentials){
		"response": func(c *Credentials) { c.Response = strings.Replace(c.Response, "6", "7", 1) }, "nonce": func(c *Credentials) { c.Nonce += "0" },
		"uri": func(c *Credentials) { c.URI += "x" }, "nc": func(c *Credentials) { c.NC = "00000002" }, "cnonce": func(c *Credentials) { c.CNonce = "" },
		"qop": func(c *Credentials) { c.QOP = "auth-int" }, "algorithm": func(c *Credentials) { c.Algorithm = "SHA-256" },
	} {
		wrong := c
		change(&wrong)
		if err := wrong.Check(mufasaHA1, "GET"); !errors.Is(err, ErrWrong) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := c.Check(mufasaHA1, "POST"); !errors.Is(err, ErrWrong) {
		t.Errorf("another method: %v", err)
	}
	if err := (Credentials{}).Check(mufasaHA1, "GET"); !errors.Is(err, ErrNone) {
		t.Errorf("no response: %v", err)
	}
}

// RFC 2069 had no qop; its form is still accepted. The vector is that of RFC 2069 2.4 as its errata correct it.
func TestWithoutQOP(t *testing.T) {
	c, err := Parse(`Digest username="Mufasa",realm="testrealm@host.com",nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",uri="/dir/index.html",response="1949323746fe6a43ef61f9606e7febea",algorithm=md5`)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(digest("Mufasa", "testrealm@host.com", "CircleOfLife"), "GET"); err != nil {
		t.Error(err)
	}
}

func TestParse(t *testing.T) {
	for _, bad := range []string{"Basic QWxh", "Digest", `Digest username`, `Digest username="a`, `Digest ="a"`, `Digest user name="a"`, `Digest a="\`, `Digest "a"="b"`} {
		if c, err := Parse(bad); bad != "Digest" && !errors.Is(err, ErrSyntax) {
			t.Errorf("%q is read as %+v, %v", bad, c, err)
		}
	}
	for text, want := range map[string]Credentials{
		"":                                      {},
		`DIGEST USERNAME="a"`:                   {Username: "a"},
		`Digest  username = "a" , NC=00000001 `: {Username: "a", NC: "00000001"},
		`Digest username="a\"b\\c",,realm=""`:   {Username: `a"b\c`},
		`Digest realm="a,b=c",nonce="n=="`:      {Realm: "a,b=c", Nonce: "n=="},
		`Digest auts="x",integrity-protected=ip-assoc-yes,new="y"`: {AUTS: "x", IntegrityProtected: "ip-assoc-yes"},
	} {
		if c, err := Parse(text); err != nil || c != want {
			t.Errorf("%q is read as %+v, %v", text, c, err)
		}
	}
}

func TestCount(t *testing.T) {
	for text, want := range map[string]uint32{"": 1, "00000001": 1, "0000000a": 10, "FFFFFFFF": 1<<32 - 1, "100000000": 1, "x": 1, "0": 1, "-1": 1} {
		if got := (Credentials{NC: text}).Count(); got != want {
			t.Errorf("nc=%s counts %d, want %d", text, got, want)
		}
	}
}

func TestNonce(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	n := Nonces{Key: []byte("k"), Life: 40 * time.Second, Now: func() time.Time { return now }}
	nonce := n.New("alice")
	id, expires, err := n.Verify(nonce, "alice")
	if err != nil || !expires.Equal(now.Add(40*time.Second)) || len(id) != idSize {
		t.Errorf("%x, %v, %v", id, expires, err)
	}
	if n.New("alice") == nonce {
		t.Error("two nonces are the same")
	}
	other := n
	other.Key = []byte("l")
	stale := func(what string, n Nonces, nonce, impi string) {
		t.Helper()
		if _, _, err := n.Verify(nonce, impi); !errors.Is(err, ErrStale) {
			t.Errorf("%s: %v", what, err)
		}
	}
	stale("of another user", n, nonce, "bob")
	stale("of another key", other, nonce, "alice")
	stale("nothing", n, "", "alice")
	stale("cut", n, nonce[:len(nonce)-2], "alice")
	stale("rubbish", n, "====", "alice")
	for i := range nonce {
		b := []byte(nonce)
		if b[i] = 'A'; b[i] == nonce[i] {
			b[i] = 'Q'
		}
		stale("changed", n, string(b), "alice")
	}
	now = now.Add(41 * time.Second)
	stale("old", n, nonce, "alice")
}

// Whoever knows the password is let in, and nobody else, whatever characters names and nonces have.
func TestChallengeAndAnswer(t *testing.T) {
	check := func(user, password, cnonce string, uses uint8) bool {
		ha1 := digest(user, "ims.test", password)
		header := Challenge("ims.test", "n0", "", true)
		if !strings.HasSuffix(header, `,qop="auth",stale=true`) {
			return false
		}
		c := Credentials{Username: user, Nonce: "n0", URI: "sip:ims.test", QOP: "auth", NC: "00000001", CNonce: cnonce}
		c.Response = digest(ha1, "n0", c.NC, cnonce, "auth", digest("REGISTER", c.URI))
		quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace
		read, err := Parse(`Digest username="` + quote(user) + `",nonce="n0",uri="sip:ims.test",qop=auth,nc=00000001,cnonce="` + quote(cnonce) + `",response="` + c.Response + `"`)
		return err == nil && read == c && read.Check(ha1, "REGISTER") == nil && errors.Is(read.Check(digest(user, "ims.test", password+"x"), "REGISTER"), ErrWrong)
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(mufasa)
	f.Add(`Digest a="\`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(text)
		if err == nil && text != "" && !strings.EqualFold(strings.SplitN(text, " ", 2)[0], "Digest") {
			t.Errorf("%q is read as %+v", text, c)
		}
		_ = c.Check(mufasaHA1, "REGISTER")
		if c.Count() == 0 {
			t.Error("a count of 0")
		}
		_, _, _ = Nonces{Key: []byte("k"), Now: time.Now}.Verify(c.Nonce, c.Username)
	})
}
