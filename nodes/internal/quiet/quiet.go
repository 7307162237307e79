// Package quiet makes TCP connections whose reads and writes do not tell Go's scheduler of their system calls. These never
// wait, for the poller does; but each would wake the runtime's monitor thread after the process has been idle, which a node
// that handles one message at a time is before every message.
package quiet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Conn is a TCP connection. Deadlines, Close and errors are as those of net.TCPConn.
type Conn struct {
	*net.TCPConn
	raw syscall.RawConn
	in  transfer
	out transfer
}

// Wrap returns the connection as a Conn where it is one of TCP; others come back as they are.
func Wrap(nc net.Conn) net.Conn {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nc
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nc
	}
	c := &Conn{TCPConn: tcp, raw: raw}
	c.in.call, c.out.call, c.out.once = c.in.read, c.out.write, c.out.writeOnce
	return c
}

// transfer carries one read or write into the poller's callback.
type transfer struct {
	mu   sync.Mutex
	buf  []byte
	done int
	err  error
	call func(fd uintptr) bool
	once func(fd uintptr) bool
}

// run lets the poller call f; it holds the lock.
func (t *transfer) run(p []byte, poll func(func(uintptr) bool) error, f func(uintptr) bool) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf, t.done, t.err = p, 0, nil
	err := poll(f)
	t.buf = nil
	if err == nil {
		err = t.err
	}
	return t.done, err
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.in.run(p, c.raw.Read, c.in.call)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, c.wrap("read", err)
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.out.run(p, c.raw.Write, c.out.call)
	return n, c.wrap("write", err)
}

// TryWrite writes what the system takes at once, which may be nothing, and does not wait.
func (c *Conn) TryWrite(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.out.run(p, c.raw.Write, c.out.once)
	return n, c.wrap("write", err)
}

// wrap names what failed, as package net does.
func (c *Conn) wrap(op string, err error) error {
	errno, ok := err.(syscall.Errno) //nolint:errorlint // straight from the system call
	if !ok {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}

// read takes what is there; false waits for something.
func (t *transfer) read(fd uintptr) bool {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.buf))), uintptr(len(t.buf)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			t.done = int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			t.err = errno
			return true
		}
	}
}

// write sends all; false waits for room.
func (t *transfer) write(fd uintptr) bool {
	for len(t.buf) > 0 {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(t.buf))), uintptr(len(t.buf)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			t.done += int(n)
			t.buf = t.buf[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			t.err = errno
			return true
		}
	}
	return true
}

func (t *transfer) writeOnce(fd uintptr) bool {
	t.write(fd)
	return true
}
