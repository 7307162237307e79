package transaction

import (
	"encoding/binary"
	"sync"
	"time"
)

// past remembers server transactions that are over but for retransmissions of their request: by key, with the response
// that such a retransmission gets (none for an INVITE that was answered by 2xx). It is where most transactions of a busy
// node are, for 64*T1 each, so it holds bytes and no pointers: the garbage collector has nothing to look at, and a
// transaction costs its key, its response and little else.
type past struct {
	mu     sync.Mutex
	life   time.Duration
	index  map[key]place
	chunks []*chunk // oldest first
	first  uint32   // number of chunks[0]
	spare  *chunk
}

// place is where a record stands: the number of its chunk and the offset in it.
type place struct{ chunk, offset uint32 }

// chunk holds records in the order in which they end, which is that of their coming.
type chunk struct {
	data []byte
	done int // up to here records have ended
}

const (
	chunkSize  = 64 << 10
	recordHead = 8 + 16 + 4 // end, key, length of the response
)

func (p *past) init(life time.Duration) {
	p.life, p.index = life, map[key]place{}
}

func (p *past) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.index)
}

// add remembers a transaction until its time is over.
func (p *past) add(k key, answer []byte, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	size := recordHead + len(answer)
	if n := len(p.chunks); n == 0 || cap(p.chunks[n-1].data)-len(p.chunks[n-1].data) < size {
		p.chunks = append(p.chunks, p.fresh(size))
	}
	at := len(p.chunks) - 1
	c := p.chunks[at]
	p.index[k] = place{p.first + uint32(at), uint32(len(c.data))} //nolint:gosec // both are bounded by memory
	c.data = binary.NativeEndian.AppendUint64(c.data, uint64(now.Add(p.life).UnixNano()))
	c.data = binary.NativeEndian.AppendUint64(c.data, k[0])
	c.data = binary.NativeEndian.AppendUint64(c.data, k[1])
	c.data = binary.NativeEndian.AppendUint32(c.data, uint32(len(answer))) //nolint:gosec // a message
	c.data = append(c.data, answer...)
}

func (p *past) fresh(size int) *chunk {
	if c := p.spare; c != nil && size <= chunkSize {
		p.spare = nil
		return c
	}
	return &chunk{data: make([]byte, 0, max(size, chunkSize))}
}

// find tells whether a transaction is remembered and appends its response, if it has one, to into.
func (p *past) find(k key, into []byte) (answer []byte, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, known := p.index[k]
	if !known {
		return nil, false
	}
	record := p.chunks[at.chunk-p.first].data[at.offset:]
	size := binary.NativeEndian.Uint32(record[24:])
	return append(into, record[recordHead:recordHead+size]...), true
}

func (p *past) has(k key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known := p.index[k]
	return known
}

// sweep forgets what is over.
func (p *past) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := uint64(now.UnixNano()) //nolint:gosec // after 1970
	for len(p.chunks) > 0 {
		c := p.chunks[0]
		for c.done < len(c.data) {
			record := c.data[c.done:]
			if binary.NativeEndian.Uint64(record) > limit {
				return
			}
			k := key{binary.NativeEndian.Uint64(record[8:]), binary.NativeEndian.Uint64(record[16:])}
			if at := p.index[k]; at.chunk == p.first && int(at.offset) == c.done {
				delete(p.index, k)
			}
			c.done += recordHead + int(binary.NativeEndian.Uint32(record[24:]))
		}
		if len(p.chunks) == 1 && len(c.data) < chunkSize/2 {
			return // it takes more yet
		}
		p.chunks[0] = nil
		p.chunks = p.chunks[1:]
		p.first++
		if cap(c.data) == chunkSize {
			c.data, c.done = c.data[:0], 0
			p.spare = c
		}
	}
}
