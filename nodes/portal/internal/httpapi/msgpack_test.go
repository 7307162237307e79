package httpapi

import (
	"bytes"
	"strings"
	"testing"
)

// The bytes are those of the MessagePack specification.
func TestMessagePack(t *testing.T) {
	long, list := strings.Repeat("x", 40), make([]int, 20)
	for name, c := range map[string]struct {
		value any
		want  []byte
	}{
		"map":          {map[string]any{"compact": true, "schema": 0}, append(append([]byte{0x82, 0xa7}, "compact"...), append([]byte{0xc3, 0xa6}, "schema\x00"...)...)},
		"nil":          {nil, []byte{0xc0}},
		"false":        {false, []byte{0xc2}},
		"negative":     {-1, []byte{0xff}},
		"large":        {1000, []byte{0xd3, 0, 0, 0, 0, 0, 0, 3, 0xe8}},
		"float":        {1.5, []byte{0xcb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0}},
		"string 40":    {long, append([]byte{0xd9, 40}, long...)},
		"list of 20":   {list, append([]byte{0xdc, 0, 20}, make([]byte, 20)...)},
		"string 300":   {strings.Repeat("y", 300), append([]byte{0xda, 1, 44}, bytes.Repeat([]byte("y"), 300)...)},
		"string 70000": {strings.Repeat("z", 70000), append([]byte{0xdb, 0, 1, 0x11, 0x70}, bytes.Repeat([]byte("z"), 70000)...)},
	} {
		got, err := msgpack(c.value)
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: % x, %v, want % x", name, got[:min(len(got), 30)], err, c.want[:min(len(c.want), 30)])
		}
	}
}
