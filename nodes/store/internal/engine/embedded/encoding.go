package embedded

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/bits"
	"os"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// A row is stored under table NUL key, as its version (uvarint) and its value.

func appendKey(b []byte, table, key string) []byte {
	b = append(b, table...)
	b = append(b, 0)
	return append(b, key...)
}

func decode(key string, stored []byte) (engine.Row, error) {
	version, n := binary.Uvarint(stored)
	if n <= 0 {
		return engine.Row{}, fmt.Errorf("row %q is damaged: it has no version", key)
	}
	return engine.Row{Key: key, Value: bytes.Clone(stored[n:]), Version: version}, nil
}

func uvarintLen(v uint64) int { return max(1, (bits.Len64(v)+6)/7) }

// logger passes what Pebble says on to slog.
type logger struct{ log *slog.Logger }

func (l logger) Infof(format string, args ...any) {
	l.log.Debug("database: " + fmt.Sprintf(format, args...))
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("database: " + fmt.Sprintf(format, args...))
}

// Fatalf is called when going on would lose acknowledged writes: the log cannot be written. The process must end, and
// the next one recovers what was acknowledged.
func (l logger) Fatalf(format string, args ...any) {
	l.log.Error("database cannot go on: " + fmt.Sprintf(format, args...))
	os.Exit(1)
}
