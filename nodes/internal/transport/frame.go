package transport

import (
	"bytes"
	"errors"
	"strconv"
)

// Faults of a stream. Nothing behind them can be understood, so they end the connection.
var (
	errHeaderSize  = errors.New("headers are too large")
	errMessageSize = errors.New("message is too large")
	errNoLength    = errors.New("no Content-Length on a stream")
	errLength      = errors.New("malformed Content-Length")
)

// framer cuts a byte stream into messages (RFC 3261 18.3). It looks at every byte once, however it arrives.
type framer struct {
	maxHeader, maxMessage int

	scanned int // bytes of complete header lines seen
	first   bool
	length  int // Content-Length, -1 when not seen
	fold    bool
	total   int // size of the message once the headers are complete
}

func (f *framer) reset() { f.scanned, f.first, f.length, f.fold, f.total = 0, false, -1, false, 0 }

// next looks at the buffered bytes, which start at a message. It returns the size of the first message when it is
// complete, else 0. On an error head is how many bytes hold the headers, so far as they are known (for a 400).
func (f *framer) next(buf []byte) (size int, err error) {
	for f.total == 0 {
		i := bytes.IndexByte(buf[f.scanned:], '\n')
		if i < 0 {
			if len(buf) > f.maxHeader {
				return 0, errHeaderSize
			}
			return 0, nil
		}
		line := buf[f.scanned : f.scanned+i]
		f.scanned += i + 1
		if f.scanned > f.maxHeader {
			return 0, errHeaderSize
		}
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		if len(line) > 0 {
			if err := f.line(line); err != nil {
				return 0, err
			}
			continue
		}
		if f.length < 0 {
			f.total = f.scanned
			return 0, errNoLength
		}
		f.total = f.scanned + f.length
		if f.total > f.maxMessage {
			return 0, errMessageSize
		}
	}
	if len(buf) < f.total {
		return 0, nil
	}
	return f.total, nil
}

// line reads Content-Length from a header line, also when its value is folded onto the next line.
func (f *framer) line(line []byte) error {
	if line[0] == ' ' || line[0] == '\t' {
		if f.fold {
			f.fold = false
			return f.value(line)
		}
		return nil
	}
	if f.fold {
		return errLength
	}
	colon := bytes.IndexByte(line, ':')
	if colon <= 0 {
		return nil
	}
	switch name := bytes.TrimRight(line[:colon], " \t"); len(name) {
	case 1:
		if name[0]|0x20 != 'l' {
			return nil
		}
	case len("Content-Length"):
		if !bytes.EqualFold(name, []byte("Content-Length")) {
			return nil
		}
	default:
		return nil
	}
	if len(bytes.Trim(line[colon+1:], " \t")) == 0 {
		f.fold = true
		return nil
	}
	return f.value(line[colon+1:])
}

func (f *framer) value(text []byte) error {
	text = bytes.Trim(text, " \t")
	n, err := strconv.ParseUint(string(text), 10, 31)
	if err != nil || (f.length >= 0 && f.length != int(n)) {
		return errLength
	}
	f.length = int(n)
	return nil
}
