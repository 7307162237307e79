package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/platform/local/layout"
)

// secretName keeps a name from leaving its folder.
var secretName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,120}$`)

// GetSecret reads a file that only its owner may read.
func (l *Local) GetSecret(_ context.Context, deployment, name string) (string, error) {
	path, err := l.secretPath(deployment, name)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("secret %s: %w", name, platform.ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("secret: %w", err)
	}
	return string(text), nil
}

// PutSecret replaces it.
func (l *Local) PutSecret(_ context.Context, deployment, name, value string) error {
	path, err := l.secretPath(deployment, name)
	if err != nil {
		return err
	}
	return layout.WriteFile(path, []byte(value), 0o600)
}

// DeleteSecret forgets it.
func (l *Local) DeleteSecret(_ context.Context, deployment, name string) error {
	path, err := l.secretPath(deployment, name)
	if errors.Is(err, platform.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("secret: %w", err)
	}
	return nil
}

func (l *Local) secretPath(deployment, name string) (string, error) {
	if !secretName.MatchString(name) {
		return "", fmt.Errorf("secret name %q: allowed is %s", name, secretName)
	}
	folder, _, err := l.folder(deployment)
	if err != nil {
		return "", err
	}
	return filepath.Join(folder.Secrets(), name), nil
}

// SecretReference is the file's path.
func (l *Local) SecretReference(deployment, name string) (string, error) {
	return l.secretPath(deployment, name)
}
