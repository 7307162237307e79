package config

import (
	"cmp"
	"strings"
)

// FunctionURI is where a function of the router is reached by default: its prefix before the name of the cluster.
func FunctionURI(prefix, cluster string) string {
	return "sip:" + prefix + "." + strings.ToLower(cluster) + ";transport=TCP"
}

// SCSCFName is the name under which an HSS knows the S-CSCF of the deployment: scscf_uri, else that of the cluster.
func (o *Options) SCSCFName() string {
	return cmp.Or(o.SCSCFURI, FunctionURI(o.SCSCFPrefix, o.RouterHostname))
}
