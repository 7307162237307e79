package transport

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls on UDP sockets. They never wait, so they are made without telling Go's scheduler: that saves its
// bookkeeping, and above all it does not wake the runtime's monitor thread for each packet (12 % of a proxy hop).

// batchSize is how many datagrams one system call takes at most, datagramSize what each may hold.
const (
	batchSize    = 8
	datagramSize = 65535
)

// batch is where a reader takes datagrams.
type batch struct {
	headers [batchSize]mmsghdr
	vectors [batchSize]unix.Iovec
	names   [batchSize][unix.SizeofSockaddrInet6]byte
	data    [batchSize][]byte
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	unix.Msghdr
	received uint32
}

func newBatch() *batch {
	b := &batch{}
	all := make([]byte, batchSize*datagramSize)
	for i := range b.headers {
		b.data[i] = all[i*datagramSize : (i+1)*datagramSize : (i+1)*datagramSize]
		b.vectors[i].Base = &b.data[i][0]
		b.vectors[i].SetLen(datagramSize)
		b.headers[i].Iov = &b.vectors[i]
		b.headers[i].SetIovlen(1)
		b.headers[i].Name = &b.names[i][0]
	}
	return b
}

// receive takes what has arrived, at least one datagram; EAGAIN when there is none.
func (b *batch) receive(fd uintptr) (int, syscall.Errno) {
	for i := range b.headers {
		b.headers[i].Namelen = unix.SizeofSockaddrInet6
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.headers[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// datagram is one of those that receive took; the bytes are valid until the next receive.
func (b *batch) datagram(i int) ([]byte, netip.AddrPort) {
	return b.data[i][:min(b.headers[i].received, datagramSize)], peerOf(&b.names[i])
}

// peerOf reads a struct sockaddr.
func peerOf(name *[unix.SizeofSockaddrInet6]byte) netip.AddrPort {
	port := binary.BigEndian.Uint16(name[2:])
	if binary.NativeEndian.Uint16(name[:]) == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(name[4:8])), port)
	}
	addr := netip.AddrFrom16([16]byte(name[8:24])).Unmap()
	if scope := binary.NativeEndian.Uint32(name[24:]); scope != 0 && addr.Is6() {
		addr = addr.WithZone(strconv.FormatUint(uint64(scope), 10))
	}
	return netip.AddrPortFrom(addr, port)
}

// address writes the peer as a struct sockaddr of the socket's family.
func (l *udpLink) address(is4 bool, remote netip.AddrPort) {
	binary.BigEndian.PutUint16(l.to[2:], remote.Port())
	addr := remote.Addr()
	if is4 {
		binary.NativeEndian.PutUint16(l.to[:], unix.AF_INET)
		if addr = addr.Unmap(); addr.Is4() { // else there is no way, and the system says so
			raw := addr.As4()
			copy(l.to[4:], raw[:])
			l.size = unix.SizeofSockaddrInet4
		}
		return
	}
	binary.NativeEndian.PutUint16(l.to[:], unix.AF_INET6)
	raw := addr.As16()
	copy(l.to[8:], raw[:])
	if scope, err := strconv.ParseUint(addr.Zone(), 10, 32); err == nil {
		binary.NativeEndian.PutUint32(l.to[24:], uint32(scope))
	}
	l.size = unix.SizeofSockaddrInet6
}

// sender carries one send into the poller's callback; senders are used again.
type sender struct {
	link *udpLink
	buf  []byte
	err  error
	call func(fd uintptr) bool
}

var senders = sync.Pool{New: func() any { //nolint:gochecknoglobals // a pool
	s := &sender{}
	s.call = s.send
	return s
}}

// send is called with the socket; false waits until it takes more.
func (s *sender) send(fd uintptr) bool {
	for {
		_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(s.buf))), uintptr(len(s.buf)),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&s.link.to)), uintptr(s.link.size))
		switch errno {
		case 0:
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			s.err = errno
			return true
		}
	}
}

// write sends one datagram. It waits only while the socket's own buffer is full.
func (l *udpLink) write(buf []byte) error {
	s, _ := senders.Get().(*sender)
	s.link, s.buf, s.err = l, buf, nil
	err := l.s.raw.Write(s.call)
	if err == nil {
		err = s.err
	}
	s.link, s.buf = nil, nil
	senders.Put(s)
	return err
}
