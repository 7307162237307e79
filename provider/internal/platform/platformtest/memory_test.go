package platformtest

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

func TestMemoryPassesTheSuite(t *testing.T) {
	m := NewMemory()
	s := Subject{Open: func(*testing.T) platform.Platform { return m }}
	for i, text := range []string{"one", "two"} {
		path := filepath.Join(t.TempDir(), "binary")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(text))
		s.Images[i] = platform.Image{Path: path, SHA256: hex.EncodeToString(sum[:])}
	}
	Run(t, s)
}
