package quiet_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/quiet"
)

// pair is a connection with both of its ends wrapped.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	dialled, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = dialled.Close(), accepted.Close() })
	return quiet.Wrap(dialled), quiet.Wrap(accepted)
}

// TestMuch sends more than any buffer holds.
func TestMuch(t *testing.T) {
	a, b := pair(t)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	go func() { _, _ = a.Write(sent); _ = a.Close() }()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
	}
}

func TestDeadlinesAndClose(t *testing.T) {
	a, b := pair(t)
	_ = b.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err := b.Read(make([]byte, 1))
	var timeout net.Error
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("deadline of a read: %v", err)
	}
	_ = a.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := a.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 {
		t.Errorf("deadline of a write that nobody reads: %d, %v", n, err)
	}
	_ = b.SetReadDeadline(time.Time{})
	_ = a.SetWriteDeadline(time.Time{})
	done := make(chan error)
	go func() {
		_, err := a.Read(make([]byte, 1))
		done <- err
	}()
	_ = a.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("read of what is closed meanwhile: %v", err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after the end: %v", err)
	}
}

// TestTryWrite fills a connection whose peer does not read.
func TestTryWrite(t *testing.T) {
	a, b := pair(t)
	c := a.(*quiet.Conn)
	chunk, total := make([]byte, 1<<20), 0
	for {
		n, err := c.TryWrite(chunk)
		if err != nil {
			t.Fatal(err)
		}
		if total += n; n < len(chunk) {
			break
		}
	}
	if n, err := io.CopyN(io.Discard, b, int64(total)); err != nil {
		t.Errorf("%d of %d: %v", n, total, err)
	}
	_ = b.Close()
	_ = a.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := a.Read(chunk); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after the peer's end: %d, %v", n, err)
	}
}
