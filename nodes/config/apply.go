package config

import (
	"reflect"
	"slices"
	"strings"
)

// restarts says which roles read an option only when they start: a change of it in shared_config restarts their nodes, one
// after the other. Every other option takes effect live. Options of this node's own files are read at its start.
func restarts() map[string][]Role {
	sip, calls := []Role{Edge, Router}, []Role{Edge, Router, Diameter, XDMS, Portal}
	out := map[string][]Role{
		"hs_hostname": sip, "sip_tcp_connect_timeout": sip, "sip_tcp_send_timeout": sip,
		"sip_blacklist_duration": sip, "stateless_proxies": sip,
		"http_blacklist_duration": calls, "sprout_homestead_timeout_ms": calls,
		"cassandra_hostname": {Router}, "homestead_provisioning_port": {Diameter},
		"hs_provisioning_hostname": {Portal}, "xdms_hostname": {Portal},
		"signaling_dns_server": Roles(), "dns_timeout": Roles(),
		"hss_hostname": {Diameter}, "hss_realm": {Diameter},
	}
	for role, names := range map[Role]string{
		Edge: "upstream_hostname upstream_port edge_tls_port edge_ws_port edge_wss_port edge_ws_origins disable_tcp_switch turn_port turn_tls_port turn_relay_port_min " +
			"turn_relay_port_max turn_denied_peers turn_allowed_peers turn_user_allocations turn_total_allocations turn_allocation_kbps turn_rest_secret turn_workaround",
		Router:   "icscf bgcf scscf",
		Diameter: "hs_diameteridentity hs_listen_port hs_secure_listen_port homestead_diameter_watchdog_timer max_peers check_destination_host diameter_blacklist_duration",
	} {
		for name := range strings.FieldsSeq(names) {
			out[name] = append(slices.Clone(out[name]), role)
		}
	}
	return out
}

// NeedsRestart lists the options whose values differ between before and after and which a node of role reads only when it
// starts, in the order of Options.
func NeedsRestart(role Role, before, after *Options) []string {
	var out []string
	table := restarts()
	for _, s := range specs() {
		if s.scope != scopeShared && s.scope != scopeAny || !slices.Contains(table[s.name], role) {
			continue
		}
		old, now := reflect.ValueOf(before).Elem().FieldByIndex(s.index), reflect.ValueOf(after).Elem().FieldByIndex(s.index)
		if !reflect.DeepEqual(old.Interface(), now.Interface()) {
			out = append(out, s.name)
		}
	}
	return out
}

// Effect says when a change of an option takes effect: "live", "restart of <roles>", "start of the node" for those of its own
// files, or why never. It is empty for an option that nobody knows.
func Effect(name string) string {
	s, known := byName()[name]
	if !known {
		old, ok := legacy(name)
		if !ok {
			return ""
		}
		return old.why
	}
	switch roles := restarts()[name]; {
	case s.why != "":
		return s.why
	case s.scope == scopeLocal || s.scope == scopeUser && name != "log_level":
		return "start of the node"
	case len(roles) > 0:
		words := make([]string, len(roles))
		for i, r := range roles {
			words[i] = string(r)
		}
		return "restart of " + strings.Join(words, ", ")
	default:
		return "live"
	}
}
