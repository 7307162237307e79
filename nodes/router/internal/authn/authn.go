// Package authn authenticates a REGISTER by SIP digest (RFC 2617 as RFC 3261 22 uses it, TS 33.203 annex N).
// Challenges are stateless: the nonce proves itself by a keyed hash over the private identity, a random part and the
// time, under a key that all routers share; so any router checks the answer to any router's challenge. That a nonce
// serves once is the registrar's business: it consumes the nonce in the swap that stores the bindings.
package authn

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // RFC 2617
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Errors of Check.
var (
	ErrNone   = errors.New("no answer to a challenge")
	ErrStale  = errors.New("nonce is not ours or too old")
	ErrWrong  = errors.New("wrong response")
	ErrSyntax = errors.New("malformed Authorization")
)

// Nonces makes and verifies nonces.
type Nonces struct {
	Key  []byte
	Life time.Duration // how long after its making a nonce is taken
	Now  func() time.Time
}

const (
	idSize    = 16 // 8 bytes time, 8 bytes random
	nonceSize = idSize + 16
)

// New makes a nonce for a private identity.
func (n Nonces) New(impi string) string {
	raw := make([]byte, idSize, nonceSize)
	binary.BigEndian.PutUint64(raw, uint64(n.Now().UnixMilli())) //nolint:gosec // time is after 1970
	_, _ = rand.Read(raw[8:])                                    // never fails since Go 1.24
	sum := n.mac(raw, impi)
	return base64.RawURLEncoding.EncodeToString(append(raw, sum[:]...))
}

func (n Nonces) mac(id []byte, impi string) (sum [nonceSize - idSize]byte) {
	h := n.borrow()
	h.text = append(append(h.text[:0], id...), impi...)
	h.Write(h.text)
	h.sum = h.Sum(h.sum[:0])
	copy(sum[:], h.sum)
	macs.Put(h)
	return sum
}

// macs are keyed hashes that are used again: keying one costs more than hashing with it.
var macs sync.Pool //nolint:gochecknoglobals // a pool

type keyed struct {
	hash.Hash
	key       string
	text, sum []byte
}

func (n Nonces) borrow() *keyed {
	if h, _ := macs.Get().(*keyed); h != nil && h.key == string(n.Key) {
		h.Reset()
		return h
	}
	return &keyed{Hash: hmac.New(sha256.New, n.Key), key: string(n.Key)}
}

// Verify returns the part of a nonce that identifies it, and when it ends.
func (n Nonces) Verify(nonce, impi string) (id []byte, expires time.Time, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(raw) != nonceSize {
		return nil, time.Time{}, ErrStale
	}
	if sum := n.mac(raw[:idSize], impi); !hmac.Equal(raw[idSize:], sum[:]) {
		return nil, time.Time{}, ErrStale
	}
	made := time.UnixMilli(int64(binary.BigEndian.Uint64(raw))) //nolint:gosec // made by New
	expires = made.Add(n.Life)
	if n.Now().After(expires) {
		return nil, time.Time{}, ErrStale
	}
	return raw[:idSize], expires, nil
}

// Credentials are an Authorization header (RFC 2617 3.2.2).
type Credentials struct {
	Username, Realm, Nonce, URI, Response, Algorithm, CNonce, QOP, NC, Opaque, IntegrityProtected, AUTS string
}

// Parse reads "Digest name=value, ...". An absent header gives zero Credentials and no error.
func Parse(value string) (Credentials, error) {
	var c Credentials
	if value == "" {
		return c, nil
	}
	scheme, rest, _ := strings.Cut(value, " ")
	if !strings.EqualFold(scheme, "Digest") {
		return c, ErrSyntax
	}
	for rest = skip(rest); rest != ""; rest = skip(rest) {
		name, value, after, ok := parameter(rest)
		if !ok {
			return c, ErrSyntax
		}
		if field := c.field(name); field != nil {
			*field = value
		}
		rest = after
	}
	return c, nil
}

// skip drops what may stand between parameters.
func skip(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t' || s[0] == ',') {
		s = s[1:]
	}
	return s
}

// field is where the value of a parameter goes; nil for one that is not known.
func (c *Credentials) field(name string) *string {
	for _, f := range [...]struct {
		name  string
		field *string
	}{
		{"username", &c.Username}, {"realm", &c.Realm}, {"nonce", &c.Nonce}, {"uri", &c.URI}, {"response", &c.Response},
		{"algorithm", &c.Algorithm}, {"cnonce", &c.CNonce}, {"qop", &c.QOP}, {"nc", &c.NC}, {"opaque", &c.Opaque},
		{"integrity-protected", &c.IntegrityProtected}, {"auts", &c.AUTS},
	} {
		if len(f.name) == len(name) && strings.EqualFold(f.name, name) {
			return f.field
		}
	}
	return nil
}

// parameter cuts one name=value or name="value".
func parameter(s string) (name, value, rest string, ok bool) {
	name, rest, ok = strings.Cut(s, "=")
	if n := len(name); n > 0 && (name[n-1] == ' ' || name[n-1] == '\t') {
		name = strings.TrimSpace(name)
	}
	for rest != "" && (rest[0] == ' ' || rest[0] == '\t') {
		rest = rest[1:]
	}
	if !ok || name == "" || strings.ContainsAny(name, "\", ") {
		return "", "", "", false
	}
	if !strings.HasPrefix(rest, `"`) {
		value, rest, _ = strings.Cut(rest, ",")
		return name, strings.TrimSpace(value), rest, true
	}
	for i := 1; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++
		case '"':
			value = rest[1:i]
			if strings.IndexByte(value, '\\') >= 0 {
				value = unquote(value)
			}
			return name, value, rest[i+1:], true
		}
	}
	return "", "", "", false
}

func unquote(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Count is the nonce-count; absent counts as 1.
func (c Credentials) Count() uint32 {
	n, err := strconv.ParseUint(c.NC, 16, 32)
	if err != nil || n == 0 {
		return 1
	}
	return uint32(n)
}

// Check verifies the response with HA1 (hex). A missing qop is accepted (RFC 2069 form).
func (c Credentials) Check(ha1, method string) error {
	if c.Response == "" {
		return ErrNone
	}
	if c.Algorithm != "" && !strings.EqualFold(c.Algorithm, "MD5") {
		return ErrWrong
	}
	return c.check(ha1, method)
}

func (c Credentials) check(ha1, method string) error {
	ha2 := digest(method, c.URI)
	var want string
	switch {
	case c.QOP == "":
		want = digest(strings.ToLower(ha1), c.Nonce, ha2)
	case c.QOP == "auth":
		want = digest(strings.ToLower(ha1), c.Nonce, c.NC, c.CNonce, c.QOP, ha2)
	default:
		return ErrWrong
	}
	if subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(c.Response))) != 1 {
		return ErrWrong
	}
	return nil
}

func digest(parts ...string) string {
	var room [512]byte
	b := room[:0]
	for i, p := range parts {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, p...)
	}
	sum := md5.Sum(b) //nolint:gosec // RFC 2617
	return hex.EncodeToString(sum[:])
}

// Challenge is the WWW-Authenticate value.
func Challenge(realm, nonce, qop string, stale bool) string {
	if qop == "" {
		qop = "auth"
	}
	s := `Digest realm="` + realm + `",nonce="` + nonce + `",opaque="` + opaque + `",algorithm=MD5,qop="` + qop + `"`
	if stale {
		s += ",stale=true"
	}
	return s
}

// opaque has no meaning: all state is in the nonce. Some phones insist on echoing one.
const opaque = "clearwater"
