package session

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"github.com/clearwater-ims/clearwater/nodes/api/portal"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/nodes/api/xdms"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/provider/internal/platform"
	"github.com/clearwater-ims/clearwater/provider/internal/topology"
)

// httpClient finds hosts through the deployment's own name server.
func httpClient(w *platform.World) *http.Client {
	return rest.NewHTTPClient(rest.Options{DNS: []string{w.Deployment.DNSServer}})
}

// url of a role's cluster in a site. The host ends without a dot; the resolver takes it as absolute.
func url(w *platform.World, site string, role config.Role, port int) string {
	return "http://" + net.JoinHostPort(topology.ClusterHost(role, site, w.Deployment.HomeDomain), strconv.Itoa(port))
}

// Provisioning is the client of a site's subscriber master.
func (s *Session) Provisioning(w *platform.World, site string) *provisioning.Client {
	return provisioning.New(url(w, site, config.Diameter, config.PortProvisioning), httpClient(w))
}

// Documents is the client of a site's document store.
func (s *Session) Documents(w *platform.World, site string) *xdms.Client {
	return xdms.New(url(w, site, config.XDMS, config.PortXDMS), httpClient(w))
}

// Portal is the client of a site's portal, with the deployment's API key.
func (s *Session) Portal(ctx context.Context, w *platform.World, site string) (*portal.Client, error) {
	key, err := s.Platform.GetSecret(ctx, w.Deployment.ID, "ellis_api_key")
	if err != nil {
		return nil, fmt.Errorf("the portal's API key: %w", err)
	}
	return portal.New(url(w, site, config.Portal, w.Deployment.Ports.PortalHTTP), httpClient(w), key), nil
}

// Dead tells whether no store node of the site runs any more: then there is nothing that a deletion could act on.
func Dead(w *platform.World, site string) bool {
	for _, n := range w.NodesOf(site, config.Store) {
		if n.Running {
			return false
		}
	}
	return true
}
