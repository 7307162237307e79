package httpapi

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"sort"
)

// msgpack encodes a body as MessagePack, for clients that ask for application/x-msgpack. It goes through JSON, so that
// both forms have the same fields.
func msgpack(body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encoding the answer: %w", err)
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return nil, fmt.Errorf("encoding the answer: %w", err)
	}
	return appendPacked(nil, value), nil
}

func appendPacked(b []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(b, 0xc0)
	case bool:
		if v {
			return append(b, 0xc3)
		}
		return append(b, 0xc2)
	case float64:
		if n := int64(v); float64(n) == v {
			return appendInt(b, n)
		}
		return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(v))
	case string:
		b = appendLength(b, len(v), 0xa0, 32, 0xd9, 0xda, 0xdb)
		return append(b, v...)
	case []any:
		b = appendLength(b, len(v), 0x90, 16, 0, 0xdc, 0xdd)
		for _, item := range v {
			b = appendPacked(b, item)
		}
		return b
	case map[string]any:
		b = appendLength(b, len(v), 0x80, 16, 0, 0xde, 0xdf)
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		for _, key := range keys {
			b = appendPacked(appendPacked(b, key), v[key])
		}
		return b
	default: // encoding/json makes no other types
		return append(b, 0xc0)
	}
}

func appendInt(b []byte, n int64) []byte {
	if n >= -32 && n <= 127 {
		return append(b, byte(n)) //nolint:gosec // a fixint
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n)) //nolint:gosec // two's complement is the encoding
}

// appendLength writes the head of a string, list or map: the short form below limit, else with a length of 1 (if there is such a
// form), 2 or 4 bytes.
func appendLength(b []byte, n int, short byte, limit int, one, two, four byte) []byte {
	switch {
	case n < limit:
		return append(b, short|byte(n)) //nolint:gosec // below limit
	case one != 0 && n <= math.MaxUint8:
		return append(b, one, byte(n)) //nolint:gosec // bounded
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, two), uint16(n)) //nolint:gosec // bounded
	default:
		return binary.BigEndian.AppendUint32(append(b, four), uint32(n)) //nolint:gosec // an answer is far smaller
	}
}
