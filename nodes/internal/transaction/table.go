package transaction

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"math/bits"
	randv2 "math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// key names a transaction by two independent 64-bit hashes, so that the table keeps no message text alive.
type key [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()} //nolint:gochecknoglobals // fixed for the process

const shards = 64

type table struct {
	live    atomic.Int64
	past    past
	servers [shards]shard[Server]
	clients [shards]shard[Client]
}

type shard[T any] struct {
	mu sync.Mutex
	m  map[key]*T
}

func (t *table) init(life time.Duration) {
	t.past.init(life)
	for i := range shards {
		t.servers[i].m = map[key]*Server{}
		t.clients[i].m = map[key]*Client{}
	}
}

func (t *table) len() int {
	n := t.past.len()
	for i := range shards {
		n += t.servers[i].len() + t.clients[i].len()
	}
	return n
}

func (s *shard[T]) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.m)
}

func (s *shard[T]) get(k key) *T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[k]
}

func (s *shard[T]) add(k key, v *T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[k] = v
}

func (s *shard[T]) remove(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, k)
}

func (t *table) server(k key) *Server       { return t.servers[k[0]%shards].get(k) }
func (t *table) removeServer(k key)         { t.servers[k[0]%shards].remove(k) }
func (t *table) client(k key) *Client       { return t.clients[k[0]%shards].get(k) }
func (t *table) addClient(k key, c *Client) { t.clients[k[0]%shards].add(k, c) }
func (t *table) removeClient(k key)         { t.clients[k[0]%shards].remove(k) }

// addServer stores tx unless the transaction is known; live is then what holds it, nil if it is past.
func (t *table) addServer(k key, tx *Server) (live *Server, known bool) {
	s := &t.servers[k[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if live = s.m[k]; live != nil {
		return live, true
	}
	if t.past.has(k) {
		return nil, true
	}
	s.m[k] = tx
	return nil, false
}

// pass moves a server transaction from the living to the past.
func (t *table) pass(k key, answer []byte, now time.Time) {
	t.past.add(k, answer, now)
	t.removeServer(k)
}

// mix puts another part into a key.
func (k *key) mix(part string) {
	for i := range k {
		k[i] = bits.RotateLeft64(k[i], 23)*0x9e3779b97f4a7c15 ^ maphash.String(seeds[i], part)
	}
}

func (k *key) mixNumber(n uint64) {
	for i := range k {
		k[i] = bits.RotateLeft64(k[i], 23)*0x9e3779b97f4a7c15 ^ (n+1)*0xbf58476d1ce4e5b9
	}
}

// serverKey matches a request to its transaction (RFC 3261 17.2.3).
func serverKey(m *sip.Message, via sip.ViaHop, method string) key {
	var k key
	if branch := via.Branch(); len(branch) > len(sip.MagicCookie) && strings.HasPrefix(branch, sip.MagicCookie) { // a bare cookie tells nothing apart
		k.mix(branch)
		k.mix(via.Host)
		k.mixNumber(uint64(via.Port)) //nolint:gosec // not negative
		k.mix(method)
		return k
	}
	number, _ := m.CSeq()
	k.mixNumber(uint64(number))
	for _, part := range [...]string{m.URI, m.FromTag(), m.CallID(), m.Get(sip.Via), method} {
		k.mix(part)
	}
	return k
}

func clientKey(branch, method string) key {
	var k key
	k.mix(branch)
	k.mix(method)
	return k
}

// newBranch appends a branch that is unique over nodes and restarts (RFC 3261 8.1.1.7), followed by the mark of the
// request that loop detection compares (RFC 5393 4.2.1); mark may be empty.
func newBranch(b []byte, mark string) []byte {
	b = append(b, sip.MagicCookie...)
	var raw [12]byte
	binary.NativeEndian.PutUint64(raw[:], randv2.Uint64())
	binary.NativeEndian.PutUint32(raw[8:], randv2.Uint32())
	b = hex.AppendEncode(b, raw[:])
	if mark != "" {
		b = append(append(b, '.'), mark...)
	}
	return b
}

// newVia makes our Via value with a fresh branch; the branch is its end.
func newVia(f Flow, sentBy, mark string) (value, branch string) {
	b := make([]byte, 0, 128)
	b = append(b, "SIP/2.0/"...)
	b = append(b, viaTransport(f)...)
	b = append(b, ' ')
	b = append(b, sentBy...)
	b = append(b, ";branch="...)
	at := len(b)
	value = string(newBranch(b, mark))
	return value, value[at:]
}

// NewTag makes a tag for From or To that cannot be guessed (RFC 3261 19.3).
func NewTag() string {
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails since Go 1.24
	return hex.EncodeToString(raw[:])
}

// StatelessTag makes a tag that is the same for retransmissions of a request on this node, and cannot be guessed elsewhere.
func StatelessTag(m *sip.Message) string {
	var k key
	k.mix(m.CallID())
	k.mix(m.Get(sip.Via))
	k.mix(m.Get(sip.CSeq))
	return hex.EncodeToString(binary.BigEndian.AppendUint64(nil, k[0]))
}
