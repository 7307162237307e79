// Package operator is the file by which the operator tool (cw) finds and enters a deployment: the zone, its name servers and a
// certificate of role operator. The platform that made the deployment writes it with Write into a folder of its own
// (the local platform: <state folder>/operator); cw reads it with Load. It opens no connection.
//
// The folder holds cw.json and beside it ca.pem, operator.crt and operator.key (0600), which cw.json names:
//
//	{"zone":"ims.example.com","site":"site1","dns":["127.0.1.2:53"],"ca":"ca.pem","certificate":"operator.crt",
//	 "key":"operator.key","portal_http_port":80}
//
// Everything else (home domain, host names, API key of the portal) cw reads from the shared configuration of the deployment.
package operator

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// File is the name of the file in its folder.
const File = "cw.json"

// Access says how to reach one site of a deployment.
type Access struct {
	Zone        string   `json:"zone"`
	Site        string   `json:"site"`
	DNS         []string `json:"dns"`         // name servers of the zone, address or address:port; empty means the machine's
	CA          string   `json:"ca"`          // file of the deployment CA, relative to this one or absolute
	Certificate string   `json:"certificate"` // file of the operator's certificate chain
	Key         string   `json:"key"`         // file of its key
	// PortalHTTPPort is where the portal listens (portal_http_port); 0 means 80.
	PortalHTTPPort int `json:"portal_http_port,omitempty"`
}

// Write puts the file and the PEM texts that it names into a folder, which it creates. Files are replaced as a whole.
func Write(folder string, a Access, ca, certificate, key []byte) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("writing operator access: %w", err)
	}
	a.CA, a.Certificate, a.Key = "ca.pem", "operator.crt", "operator.key"
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("writing operator access: %w", err)
	}
	for _, f := range []struct {
		name string
		text []byte
	}{{a.CA, ca}, {a.Key, key}, {a.Certificate, certificate}, {File, append(text, '\n')}} {
		path := filepath.Join(folder, f.name)
		if err := os.WriteFile(path+".new", f.text, 0o600); err != nil {
			return fmt.Errorf("writing operator access: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return fmt.Errorf("writing operator access: %w", err)
		}
	}
	return nil
}

// Load reads the file; path may be the folder. Paths in the result are absolute or relative to the working directory.
func Load(path string) (*Access, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, File)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading operator access: %w", err)
	}
	var a Access
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&a); err != nil {
		return nil, fmt.Errorf("reading operator access from %s: %w", path, err)
	}
	for _, file := range []*string{&a.CA, &a.Certificate, &a.Key} {
		if *file == "" {
			return nil, fmt.Errorf("reading operator access from %s: ca, certificate and key must be set", path)
		}
		if !filepath.IsAbs(*file) {
			*file = filepath.Join(filepath.Dir(path), *file)
		}
	}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("reading operator access from %s: %w", path, err)
	}
	return &a, nil
}

// OfNode derives access from the configuration folder of a node, with the node's own certificate. Nodes may refuse to be
// steered with it.
func OfNode(folder string) (*Access, error) {
	o, _, err := config.Load(folder)
	if err != nil {
		return nil, fmt.Errorf("reading the node's configuration: %w", err)
	}
	within := func(path string, parts ...string) string {
		if !filepath.IsAbs(path) {
			path = filepath.Join(folder, path)
		}
		return filepath.Join(append([]string{path}, parts...)...)
	}
	return &Access{
		Zone: o.Zone, Site: o.Site, DNS: o.SignalingDNS, CA: within(o.CACertificate), PortalHTTPPort: o.PortalHTTP,
		Certificate: within(o.DataDirectory, "pki", "node.crt"), Key: within(o.DataDirectory, "pki", "node.key"),
	}, nil
}

func (a *Access) check() error {
	switch {
	case a.Zone == "" || a.Site == "":
		return errors.New("zone and site must be set")
	case a.PortalHTTPPort < 0 || a.PortalHTTPPort > 65535:
		return fmt.Errorf("portal_http_port %d must be from 1 to 65535", a.PortalHTTPPort)
	}
	for _, server := range a.DNS {
		if _, err := netip.ParseAddrPort(server); err != nil {
			if _, err := netip.ParseAddr(server); err != nil {
				return fmt.Errorf("dns: %q is not an address or address:port", server)
			}
		}
	}
	return nil
}

// TLS is the client side of mutual TLS with nodes of the given roles.
func (a *Access) TLS(roles ...config.Role) (*tls.Config, error) {
	ca, err := os.ReadFile(a.CA)
	if err != nil {
		return nil, fmt.Errorf("reading the deployment CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", a.CA)
	}
	chain, err := os.ReadFile(a.Certificate)
	if err != nil {
		return nil, fmt.Errorf("reading the operator's certificate: %w", err)
	}
	key, err := os.ReadFile(a.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the operator's key: %w", err)
	}
	own, err := pki.Static(chain, key)
	if err != nil {
		return nil, fmt.Errorf("operator's certificate %s: %w", a.Certificate, err)
	}
	peers := make([]string, len(roles))
	for i, r := range roles {
		peers[i] = string(r)
	}
	return pki.ClientTLS(roots, own, peers...), nil
}

// StoreHost is the name of the site's store nodes, which serve configuration and cluster state.
func (a *Access) StoreHost() string { return "store." + a.Site + "." + a.Zone }

// PortalURL is the portal's plain HTTP address, under the host name of its option or the default one.
func (a *Access) PortalURL(host string) string {
	if host == "" {
		host = "portal." + a.Zone
	}
	port := a.PortalHTTPPort
	if port == 0 {
		port = 80
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(port))
}
