package supervisor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// A log file is cut when it exceeds maxLog bytes; keptLogs older ones stay, the newest as .1.
const (
	maxLog   = 32 << 20
	keptLogs = 3
)

func (s *Supervisor) cutLogs() {
	s.mu.Lock()
	paths := []string{s.folder.SupervisorLog()}
	for name := range s.keepers {
		paths = append(paths, s.folder.Log(name))
	}
	s.mu.Unlock()
	for _, path := range paths {
		if err := cutLog(path, maxLog); err != nil {
			s.log.Error("cutting a log", "path", path, "error", err)
		}
	}
}

// cutLog copies the file away and empties it in place: its writer holds it open (for appending) and knows nothing of
// this. Lines written between the two are lost.
func cutLog(path string, limit int64) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && info.Size() <= limit) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	for i := keptLogs; i > 1; i-- {
		if err := ignoreMissing(os.Rename(fmt.Sprintf("%s.%d", path, i-1), fmt.Sprintf("%s.%d", path, i))); err != nil {
			return fmt.Errorf("log: %w", err)
		}
	}
	if err := copyFile(path, path+".1"); err != nil {
		return err
	}
	if err := os.Truncate(path, 0); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return nil
}
