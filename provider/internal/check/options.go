package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

// errUnknown is an option that no node knows.
var errUnknown = errors.New("unknown option")

// Option checks one option of shared_config or user_settings exactly as a node would. The note is what a node would warn
// of and accept all the same: an option of the manual that has no effect here.
func Option(file, name, value string) (note string, err error) {
	scope := map[string]string{config.SharedFile: "shared", config.UserFile: "user"}[file]
	known := config.Names(scope)
	o := config.Defaults()
	o.LocalIP, o.PublicIP, o.PublicHostname, o.Role, o.DeploymentID, o.Zone = "127.0.0.1", "127.0.0.1", "node.example.com", config.Edge, "id", "example.com"
	_, warnings, err := config.Parse(
		config.File{Name: config.LocalFile, Path: config.LocalFile, Text: o.Render("local")},
		config.File{Name: file, Path: file, Text: fmt.Sprintf("%s=%q\n", name, value)})
	var problem config.Problem
	if errors.As(err, &problem) {
		return "", fmt.Errorf("%s = %q: allowed is %s", name, value, problem.Allowed)
	}
	if err != nil {
		return "", err
	}
	for _, w := range warnings {
		if strings.HasPrefix(w.Message, errUnknown.Error()) {
			return "", fmt.Errorf("%s in %s: %s", name, file, w.Message)
		}
		note = w.Message
	}
	if note == "" && !slices.Contains(known, name) {
		return "", fmt.Errorf("%s: %w in %s", name, errUnknown, file)
	}
	return note, nil
}
