package engine_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
)

// TestPrefix: a key is in the range of a prefix exactly if it begins with it.
func TestPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alphabet := rapid.SampledFrom([]byte{0, 'a', 0xfe, 0xff})
		p := string(rapid.SliceOfN(alphabet, 0, 4).Draw(t, "prefix"))
		key := string(rapid.SliceOfN(alphabet, 0, 6).Draw(t, "key"))
		if rapid.Bool().Draw(t, "inside") {
			key = p + key
		}
		r := engine.Prefix(p)
		in := key >= r.From && (r.To == "" || key < r.To)
		if in != strings.HasPrefix(key, p) {
			t.Errorf("prefix %q gives %q: key %q is in it: %v", p, r, key, in)
		}
	})
}
