package tier

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
)

// errImage is an image that cannot be used.
var errImage = errors.New("image refused")

// Entry of an image manifest, as `make build` writes it.
type Entry struct {
	Role    config.Role `json:"role"`
	Version string      `json:"version"`
	Digest  string      `json:"digest"` // SHA-256 of the binary, in hex
	Path    string      `json:"path"`   // of the binary, relative to the manifest
}

// image is what a role's nodes run; a platform whose images are not files finds it itself.
func (r *Resource) image(ctx context.Context, text string, role config.Role) (platform.Image, error) {
	if r.session != nil {
		if images, ok := r.session.Platform.(platform.Images); ok {
			return images.ResolveImage(ctx, text, role)
		}
	}
	return resolve(text, role)
}

// resolve finds a role's binary: in a manifest, in a folder, or the path itself, and says what it is.
func resolve(path string, role config.Role) (platform.Image, error) {
	info, err := os.Stat(path)
	if err != nil {
		return platform.Image{}, fmt.Errorf("%w: %w", errImage, err)
	}
	promised := ""
	switch {
	case info.IsDir():
		path = filepath.Join(path, string(role))
	case filepath.Ext(path) == ".json":
		entry, err := manifestEntry(path, role)
		if err != nil {
			return platform.Image{}, err
		}
		promised = entry.Digest
		if !filepath.IsAbs(entry.Path) {
			entry.Path = filepath.Join(filepath.Dir(path), entry.Path)
		}
		path = entry.Path
	}
	sum, err := digest(path)
	if err != nil {
		return platform.Image{}, fmt.Errorf("%w: %w", errImage, err)
	}
	if promised != "" && promised != sum {
		return platform.Image{}, fmt.Errorf("%w: %s has digest %s, its manifest says %s; build again", errImage, path, sum, promised)
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return platform.Image{}, fmt.Errorf("%w: %w", errImage, err)
	}
	return platform.Image{Path: path, SHA256: sum}, nil
}

func manifestEntry(path string, role config.Role) (Entry, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Entry{}, fmt.Errorf("%w: %w", errImage, err)
	}
	var entries []Entry
	if err := json.Unmarshal(text, &entries); err != nil {
		return Entry{}, fmt.Errorf("%w: manifest %s: %w", errImage, path, err)
	}
	for _, e := range entries {
		if e.Role == role {
			return e, nil
		}
	}
	return Entry{}, fmt.Errorf("%w: manifest %s has no entry for role %s", errImage, path, role)
}

func digest(path string) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", err //nolint:wrapcheck // names the file
	}
	defer func() { _ = in.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return "", err //nolint:wrapcheck // names the file
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
