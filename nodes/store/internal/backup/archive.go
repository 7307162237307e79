package backup

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// A backup is gzip of lines of JSON: a header, an entry for each row and document, tables one after the other, and a trailer with
// the number of entries and the SHA-256 of all lines before it.

// format is the version of the form.
const format = 1

type header struct {
	Format    int       `json:"format"`
	Site      string    `json:"site"`
	CreatedAt time.Time `json:"created_at"`
}

// entry is a row (Table and Key) or a document.
type entry struct {
	Table    string `json:"t,omitempty"`
	Key      string `json:"k,omitempty"`
	Document string `json:"d,omitempty"`
	Value    []byte `json:"v,omitempty"`
}

type trailer struct {
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256"`
}

// line is any of them.
type line struct {
	entry

	Trailer *trailer `json:"end,omitempty"`
}

type writer struct {
	zip  *gzip.Writer
	buf  *bufio.Writer
	sum  hash.Hash
	rows int64
}

func newWriter(w io.Writer, h header) (*writer, error) {
	a := &writer{zip: gzip.NewWriter(w), sum: sha256.New()}
	a.buf = bufio.NewWriterSize(a.zip, 64<<10)
	return a, a.line(h)
}

func (a *writer) line(v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		text = append(text, '\n')
		_, _ = a.sum.Write(text) // never fails
		_, err = a.buf.Write(text)
	}
	if err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	return nil
}

func (a *writer) write(e entry) error {
	a.rows++
	return a.line(e)
}

func (a *writer) close() error {
	end := trailer{Rows: a.rows, SHA256: hex.EncodeToString(a.sum.Sum(nil))}
	err := a.line(line{Trailer: &end})
	if err = errors.Join(err, a.buf.Flush(), a.zip.Close()); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	return nil
}

type reader struct {
	Header header

	in   *bufio.Reader
	sum  hash.Hash
	rows int64
}

func newReader(r io.Reader) (*reader, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("%w: it is no backup: %w", ErrRefused, err)
	}
	a := &reader{in: bufio.NewReaderSize(zip, 64<<10), sum: sha256.New()}
	text, err := a.in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(text, &a.Header)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: its header cannot be read: %w", ErrRefused, err)
	}
	if a.Header.Format < 1 || a.Header.Format > format {
		return nil, fmt.Errorf("%w: it has form %d, this version reads up to %d", ErrRefused, a.Header.Format, format)
	}
	_, _ = a.sum.Write(text)
	return a, nil
}

// next returns the next entry, io.EOF after the last of a whole file.
func (a *reader) next() (entry, error) {
	text, err := a.in.ReadBytes('\n')
	if err != nil {
		return entry{}, fmt.Errorf("%w: it ends too early, after %d entries: %w", ErrRefused, a.rows, noEOF(err))
	}
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return entry{}, fmt.Errorf("%w: entry %d cannot be read: %w", ErrRefused, a.rows+1, err)
	}
	if l.Trailer != nil {
		if sum := hex.EncodeToString(a.sum.Sum(nil)); l.Trailer.SHA256 != sum || l.Trailer.Rows != a.rows {
			return entry{}, fmt.Errorf("%w: its checksum or number of entries is wrong", ErrRefused)
		}
		if _, err := a.in.ReadByte(); !errors.Is(err, io.EOF) { // the end of gzip has a checksum of its own
			return entry{}, fmt.Errorf("%w: something follows its end", ErrRefused)
		}
		return entry{}, io.EOF
	}
	_, _ = a.sum.Write(text)
	a.rows++
	return l.entry, nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
