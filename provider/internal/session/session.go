// Package session is what the resources share: the platform, the way to nodes, the progress log, and the ids by which
// resources name what they own. A session is made once by the provider's Configure.
package session

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/progress"
	"github.com/clearwater-ims/clearwater/provider/internal/steer"
)

// Session is handed to every resource.
type Session struct {
	Platform platform.Platform
	Nodes    *steer.Nodes
	Progress *progress.Log
	Poll     time.Duration // how often nodes are asked whether they are ready or drained
}

// From takes the session out of what Configure hands over; nil before the provider is configured.
func From(data any, diags *diag.Diagnostics) *Session {
	if data == nil {
		return nil
	}
	s, ok := data.(*Session)
	if !ok {
		diags.AddError("Wrong provider data", fmt.Sprintf("expected a session, got %T: this is a bug in the provider", data))
	}
	return s
}

// Say returns what writes progress about a subject of a deployment.
func (s *Session) Say(ctx context.Context, w *platform.World, subject string) func(string, ...any) {
	return s.Progress.To(ctx, subject, w.Deployment.EventLog)
}

// ID joins the parts of an id: deployment uuid, site, and what is inside the site.
func ID(parts ...string) string { return strings.Join(parts, "/") }

// Parts splits an id into exactly n parts; the last may contain slashes.
func Parts(id string, n int) ([]string, error) {
	parts := strings.SplitN(id, "/", n)
	if len(parts) != n {
		return nil, fmt.Errorf("id %q has %d parts, not %d", id, len(parts), n)
	}
	for _, p := range parts {
		if p == "" {
			return nil, fmt.Errorf("id %q has an empty part", id)
		}
	}
	return parts, nil
}

// Locate finds the world that an id's first part names, by uuid or by the deployment's name, and returns it with all n
// parts, the first replaced by the uuid.
func (s *Session) Locate(ctx context.Context, id string, n int) (*platform.World, []string, error) {
	parts, err := Parts(id, n)
	if err != nil {
		return nil, nil, err
	}
	w, err := s.Platform.Reflect(ctx, parts[0])
	if err != nil {
		return nil, nil, err
	}
	parts[0] = w.Deployment.ID
	return w, parts, nil
}
