package turn

import (
	"context"
	"crypto/hmac"
	"crypto/md5"  //nolint:gosec // RFC 8489 18.5.1.1 wants it
	"crypto/sha1" //nolint:gosec // as the makers of short-lived credentials do
	"encoding/base64"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/stun/v3"
)

// Subscribers finds the key of a user: HA1, MD5(user:realm:password), for the name as the client writes it.
type Subscribers interface {
	Key(ctx context.Context, username string) (key string, err error)
}

// ErrUnknown means that there is no such user, or none with a password.
var ErrUnknown = errors.New("no such user")

// verdict is what is known of a request's credentials.
type verdict int

const (
	open    verdict = iota // they must be looked up
	right                  // proven
	wrong                  // refused with 401
	limited                // too many of this source: no answer
	unknown                // nobody could be asked: no answer, the client repeats
)

func (v verdict) String() string {
	return [...]string{"open", "admitted", "unauthorized", "limited", "unavailable"}[v]
}

// How long what was looked up holds, and how many names are remembered.
const (
	keyLife     = time.Minute
	unknownLife = 10 * time.Second
	renewAfter  = 5 * time.Second // a key that does not fit may have changed since
	maxKeys     = 20000
	lookUpTime  = 3 * time.Second
)

// credentials checks them, and remembers keys of subscribers for a while.
type credentials struct {
	realm string
	deps  Deps
	tries *buckets

	mu   sync.Mutex
	keys map[string]entry
}

type entry struct {
	key string // "" of an unknown user
	at  time.Time
}

func newCredentials(realm string, deps Deps) *credentials {
	return &credentials{realm: realm, deps: deps, tries: newBuckets(100, 10), keys: map[string]entry{}}
}

// cached judges a request by what needs no look-up.
func (c *credentials) cached(m *stun.Message, host netip.Addr) (verdict, proof) {
	now := c.deps.Now()
	if !c.tries.left(host, now) {
		return limited, proof{}
	}
	user, ok := c.user(m)
	if !ok {
		return c.fail(host, now), proof{}
	}
	if p, ok := c.shared(m, user, host, now); ok {
		return right, p
	}
	c.mu.Lock()
	e, ok := c.keys[user]
	c.mu.Unlock()
	age := now.Sub(e.at)
	switch {
	case !ok || age > keyLife || (e.key == "" && age > unknownLife):
		return open, proof{}
	case e.key != "" && fits(m, e.key):
		return right, proof{e.key, user}
	case e.key != "" && age > renewAfter:
		return open, proof{}
	}
	return c.fail(host, now), proof{}
}

// lookUp judges a request by what the subscriber data says. It takes up to lookUpTime.
func (c *credentials) lookUp(ctx context.Context, m *stun.Message, host netip.Addr) (verdict, proof) {
	now := c.deps.Now()
	c.tries.take(host, now)
	user, _ := c.user(m)
	ctx, cancel := context.WithTimeout(ctx, lookUpTime)
	defer cancel()
	key, err := c.deps.Subscribers.Key(ctx, user)
	if err != nil && !errors.Is(err, ErrUnknown) {
		c.deps.Log.Warn("credentials for TURN could not be looked up", "error", err)
		return unknown, proof{}
	}
	if err != nil {
		key = ""
	}
	c.remember(user, entry{key, now})
	if key != "" && fits(m, key) {
		return right, proof{key, user}
	}
	return c.fail(host, now), proof{}
}

func (c *credentials) fail(host netip.Addr, now time.Time) verdict {
	c.tries.take(host, now)
	return wrong
}

// user reads who sends a request, if it is meant for this realm.
func (c *credentials) user(m *stun.Message) (string, bool) {
	var user stun.Username
	var realm stun.Realm
	if user.GetFrom(m) != nil || realm.GetFrom(m) != nil || realm.String() != c.realm {
		return "", false
	}
	return user.String(), len(user) > 0
}

// shared tries the credentials that belong to no subscriber: short-lived ones, whose user name begins with the Unix time
// at which they end (draft-uberti-behave-turn-rest), and the workaround password, under which relays are counted by
// address.
func (c *credentials) shared(m *stun.Message, user string, host netip.Addr, now time.Time) (proof, bool) {
	limits := c.deps.Limits()
	if limits.Secret != "" {
		text, who, _ := strings.Cut(user, ":")
		if until, err := strconv.ParseInt(text, 10, 64); err == nil && until >= now.Unix() {
			mac := hmac.New(sha1.New, []byte(limits.Secret))
			_, _ = mac.Write([]byte(user)) // hashes do not fail
			if key := longTerm(user, c.realm, base64.StdEncoding.EncodeToString(mac.Sum(nil))); fits(m, key) {
				if who == "" {
					who = host.String()
				}
				return proof{key, "rest " + who}, true
			}
		}
	}
	if limits.Workaround != "" {
		if key := longTerm(user, c.realm, limits.Workaround); fits(m, key) {
			return proof{key, host.String()}, true
		}
	}
	return proof{}, false
}

// remember keeps a key, and forgets another where there are too many.
func (c *credentials) remember(user string, e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.keys[user]; !known && len(c.keys) >= maxKeys {
		for other := range c.keys {
			delete(c.keys, other)
			break
		}
	}
	c.keys[user] = e
}

// longTerm is the key of long-term credentials (RFC 8489 18.5.1.1), the same as HA1 of SIP digest.
func longTerm(user, realm, password string) string {
	sum := md5.Sum([]byte(user + ":" + realm + ":" + password)) //nolint:gosec // as above
	return string(sum[:])
}

func fits(m *stun.Message, key string) bool { return stun.MessageIntegrity(key).Check(m) == nil }
