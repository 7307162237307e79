package service

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

// newLogger writes JSON, or text on a terminal; into <log_directory>/<role>.log if that is set. level follows
// log_level, 1 (errors only) to 5 (everything).
func newLogger(out io.Writer, o *config.Options, level *slog.LevelVar) (*slog.Logger, error) {
	level.Set(logLevel(o.LogLevel))
	options := &slog.HandlerOptions{Level: level}
	if o.LogDirectory != "" {
		f, err := os.OpenFile(filepath.Join(o.LogDirectory, string(o.Role)+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, fmt.Errorf("opening the log (log_directory): %w", err)
		}
		out = f
	}
	var h slog.Handler = slog.NewJSONHandler(out, options)
	if f, ok := out.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			h = slog.NewTextHandler(out, options)
		}
	}
	return slog.New(h).With("node", nodeName(o)), nil
}

func logLevel(n int) slog.Level {
	switch n {
	case 1:
		return slog.LevelError
	case 2:
		return slog.LevelInfo
	case 3:
		return slog.LevelInfo - 2
	case 4:
		return slog.LevelDebug
	default:
		return slog.LevelDebug - 4
	}
}

func nodeName(o *config.Options) string {
	return fmt.Sprintf("%s-%d.%s", o.Role, o.NodeIndex, o.Site)
}

// built is the version that scripts/build.sh links in.
var built string //nolint:gochecknoglobals // the linker sets it

// version is what was linked in, else that of the module with the revision it was built from.
func version() string {
	if built != "" {
		return built
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v += " (" + s.Value + ")"
		}
	}
	return v
}
