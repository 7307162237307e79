package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestLogIsCutUnderItsWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.log")
	writer, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Close() }()
	for round := range keptLogs + 2 {
		if _, err := fmt.Fprintf(writer, "round %d", round); err != nil {
			t.Fatal(err)
		}
		if err := cutLog(path, 100); err != nil { // small enough: stays
			t.Fatal(err)
		}
		if err := cutLog(path, 1); err != nil {
			t.Fatal(err)
		}
	}
	for i := 1; i <= keptLogs; i++ {
		text, err := os.ReadFile(fmt.Sprintf("%s.%d", path, i))
		if want := fmt.Sprintf("round %d", keptLogs+2-i); err != nil || string(text) != want {
			t.Errorf("log .%d is %q, %v, want %q", i, text, err, want)
		}
	}
	if _, err := os.Stat(fmt.Sprintf("%s.%d", path, keptLogs+1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one more is kept: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || len(text) != 0 {
		t.Errorf("the log is not empty: %q, %v", text, err)
	}
	if err := cutLog(path+".none", 1); err != nil {
		t.Errorf("a log that nobody wrote: %v", err)
	}
}
