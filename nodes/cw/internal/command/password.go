package command

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// askPassword reads a password from the terminal without showing it, or a line from a pipe.
func (t *tool) askPassword() (string, error) {
	if file, ok := t.In.(*os.File); ok {
		fd := int(file.Fd()) //nolint:gosec // a descriptor
		if before, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
			silent := *before
			silent.Lflag &^= unix.ECHO
			if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
				return "", fmt.Errorf("preparing the terminal: %w", err)
			}
			defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }()
			t.printf("Password: ")
			defer t.printf("\n")
		}
	}
	line, err := t.in.ReadString('\n')
	if err != nil && line == "" {
		return "", errors.New("no password was given")
	}
	return strings.TrimRight(line, "\r\n"), nil
}
