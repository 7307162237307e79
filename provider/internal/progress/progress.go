// Package progress writes one line per step of an apply to a file that others follow while Terraform itself says
// nothing. It decides nothing, and an apply never fails for want of it.
package progress

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/terraform-plugin-log/tflog"
)

// Variable names an environment variable with the path of the file to append to. Without it, lines go to the
// platform's event log.
const Variable = "CLEARWATER_EVENTS"

// Log appends lines.
type Log struct {
	mu    sync.Mutex
	path  string
	began time.Time
}

// New returns a log that appends to the file that the environment variable names, if it does.
func New() *Log { return &Log{path: os.Getenv(Variable), began: time.Now()} }

// To returns what writes lines about a subject; fallback is the file used when the environment names none.
func (l *Log) To(ctx context.Context, subject, fallback string) func(format string, args ...any) {
	return func(format string, args ...any) { l.write(ctx, subject, fallback, fmt.Sprintf(format, args...)) }
}

func (l *Log) write(ctx context.Context, subject, fallback, text string) {
	tflog.Info(ctx, text, map[string]any{"subject": subject})
	l.mu.Lock()
	defer l.mu.Unlock()
	path := l.path
	if path == "" {
		path = fallback
	}
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		tflog.Warn(ctx, "progress cannot be written", map[string]any{"error": err.Error()})
		return
	}
	defer func() { _ = file.Close() }()
	now := time.Now()
	line := fmt.Sprintf("%s +%6.1fs  %-18s %s\n", now.UTC().Format("15:04:05.000"), now.Sub(l.began).Seconds(), subject, text)
	if _, err := file.WriteString(line); err != nil {
		tflog.Warn(ctx, "progress cannot be written", map[string]any{"error": err.Error()})
	}
}
