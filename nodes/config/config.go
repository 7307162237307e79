// Package config holds the options of every node as Go values, and reads them from the files that the manual
// names: local_config (this node), shared_config (the deployment) and user_settings (this node's verbosity and
// tuning), each a list of name=value lines. The provider renders the same structs that nodes read, so the two
// cannot drift. It opens no sockets and knows nothing of roles' internals.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names of the three files in a configuration folder, in the order in which they are read; later ones win.
const (
	LocalFile  = "local_config"
	SharedFile = "shared_config"
	UserFile   = "user_settings"
)

// Load reads the files of a configuration folder. local_config must exist; the others may be absent.
// Unknown options come back as warnings; everything else that is wrong comes back as one joined error of
// Problems. The options are usable only if the error is nil.
func Load(dir string) (*Options, []Warning, error) {
	files := make([]File, 0, 3)
	for _, name := range []string{LocalFile, SharedFile, UserFile} {
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && name != LocalFile {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading configuration: %w", err)
		}
		files = append(files, File{Name: name, Path: path, Text: string(text)})
	}
	return Parse(files...)
}

// File is one configuration file's name, place (for messages) and text.
type File struct{ Name, Path, Text string }

// Parse reads files in order, applies defaults and validates the whole.
func Parse(files ...File) (*Options, []Warning, error) {
	o := Defaults()
	var warnings []Warning
	var problems []error
	seen := map[string]place{}
	dir := ""
	for _, f := range files {
		if f.Name == LocalFile {
			dir = filepath.Dir(f.Path)
		}
		w, p := o.apply(f, seen)
		warnings = append(warnings, w...)
		problems = append(problems, p...)
	}
	problems = append(problems, o.complete(seen, dir)...)
	if len(problems) > 0 {
		return nil, warnings, errors.Join(problems...)
	}
	return o, warnings, nil
}
