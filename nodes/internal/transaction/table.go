package transaction

import (
	"crypto/rand"
	"encoding/hex"
	"hash/maphash"
	randv2 "math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// key names a transaction by two independent 64-bit hashes, so that the table keeps no message text alive.
type key [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()} //nolint:gochecknoglobals // fixed for the process

const shards = 64

type table struct {
	live    atomic.Int64
	servers [shards]shard[Server]
	clients [shards]shard[Client]
}

type shard[T any] struct {
	mu sync.Mutex
	m  map[key]*T
}

func (t *table) init() {
	for i := range shards {
		t.servers[i].m = map[key]*Server{}
		t.clients[i].m = map[key]*Client{}
	}
}

func (t *table) len() int {
	n := 0
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

// add stores v unless the key is taken; it then returns what holds it.
func (s *shard[T]) add(k key, v *T) *T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.m[k]; known != nil {
		return known
	}
	s.m[k] = v
	return nil
}

func (s *shard[T]) remove(k key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, k)
}

func (t *table) server(k key) *Server                { return t.servers[k[0]%shards].get(k) }
func (t *table) addServer(k key, tx *Server) *Server { return t.servers[k[0]%shards].add(k, tx) }
func (t *table) removeServer(k key)                  { t.servers[k[0]%shards].remove(k) }
func (t *table) client(k key) *Client                { return t.clients[k[0]%shards].get(k) }
func (t *table) addClient(k key, c *Client) *Client  { return t.clients[k[0]%shards].add(k, c) }
func (t *table) removeClient(k key)                  { t.clients[k[0]%shards].remove(k) }

func hashKey(parts ...string) key {
	var k key
	for i := range k {
		var h maphash.Hash
		h.SetSeed(seeds[i])
		for _, p := range parts {
			_, _ = h.WriteString(p)
			_ = h.WriteByte(0)
		}
		k[i] = h.Sum64()
	}
	return k
}

// serverKey matches a request to its transaction (RFC 3261 17.2.3).
func serverKey(m *sip.Message, via sip.ViaHop, method string) key {
	branch := via.Branch()
	if strings.HasPrefix(branch, sip.MagicCookie) {
		return hashKey(branch, via.Host, strconv.Itoa(via.Port), method)
	}
	number, _ := m.CSeq()
	return hashKey(m.URI, m.FromTag(), m.CallID(), strconv.FormatUint(uint64(number), 10), m.Get(sip.Via), method)
}

func clientKey(branch, method string) key { return hashKey(branch, method) }

// newBranch makes a branch that is unique over nodes and restarts (RFC 3261 8.1.1.7), followed by the mark of the
// request that loop detection compares (RFC 5393 4.2.1); mark may be empty.
func newBranch(mark string) string {
	var b [len(sip.MagicCookie) + 24]byte
	n := copy(b[:], sip.MagicCookie)
	var raw [12]byte
	for i, v := 0, randv2.Uint64(); i < 8; i++ {
		raw[i] = byte(v >> (8 * i))
	}
	for i, v := 8, randv2.Uint32(); i < 12; i++ {
		raw[i] = byte(v >> (8 * (i - 8)))
	}
	hex.Encode(b[n:], raw[:])
	if mark == "" {
		return string(b[:])
	}
	return string(b[:]) + "." + mark
}

// NewTag makes a tag for From or To that cannot be guessed (RFC 3261 19.3).
func NewTag() string {
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails since Go 1.24
	return hex.EncodeToString(raw[:])
}
