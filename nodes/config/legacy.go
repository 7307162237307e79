package config

import (
	"reflect"
	"strings"
)

// Why an option of the manual is read, checked and has no effect.
const (
	whyCores    = "accepted, no effect: work is scheduled over all cores"
	whyStore    = "accepted, no effect: state is behind the store, which nodes find by its name"
	whyEtcd     = "accepted, no effect: nodes find the site's cluster by the name store.<site>.<zone>"
	whyCharging = "not supported yet: no charging over Diameter (Rf)"
	whyAS       = "not supported yet: this application server is not part of the router"
	whyMail     = "not supported yet: the portal sends no mail"
	whySNMP     = "not supported yet: there are no SNMP alarms; the same events are metrics on /metrics"
	whyThrottle = "accepted, no effect: there is no such process here that would throttle"
	whyLogs     = "accepted, no effect: logs go to standard output or log_directory; journald or logrotate bounds them"
	whySAS      = "accepted, no effect: there is no Service Assurance Server; traces are in the logs"
	whySites    = "not supported yet: a deployment has one site"
	whyPorts    = "accepted, no effect: the management address of a node is management_local_ip"
)

// legacyOptions are the options of the manual that have no effect here. Their values are checked nevertheless, so
// that a file that is taken today stays valid when one of them gets its effect.
func legacyOptions() []spec {
	text := func(name, check, why string) spec {
		return spec{name: name, scope: scopeShared, check: check, why: why}
	}
	list := func(name, check, why string) spec {
		return spec{name: name, scope: scopeShared, kind: kindList, check: check, why: why}
	}
	yes := func(name, def, why string) spec {
		return spec{name: name, scope: scopeShared, kind: kindBool, def: def, why: why}
	}
	number := func(name, def string, low, high int64, why string) spec {
		return spec{name: name, scope: scopeShared, kind: kindInt, def: def, min: low, max: high, why: why}
	}
	local := func(s spec) spec { s.scope = scopeLocal; return s }
	user := func(s spec) spec { s.scope = scopeUser; return s }
	const month = 2147483 // seconds: the manual's limit, 2^31 milliseconds
	return []spec{
		local(list("etcd_cluster", "ips", whyEtcd)), local(list("etcd_proxy", "ips", whyEtcd)), local(text("etcd_cluster_key", "", whyEtcd)),
		local(list("remote_cassandra_seeds", "hosts", whySites)), text("remote_site_names", "", whySites),
		local(text("signaling_namespace", "", "accepted, no effect: listeners bind to addresses, not to network namespaces")),

		text("sprout_hostname_mgmt", "hostport", whyPorts), text("hs_hostname_mgmt", "hostport", whyPorts),
		text("ralf_hostname", "hostport", whyCharging), text("chronos_hostname", "hostport", whyStore), text("ralf_chronos_callback_uri", "hostport", whyCharging),
		list("sprout_registration_store", "", whyStore), list("ralf_session_store", "", whyStore), list("homestead_impu_store", "", whyStore),
		list("sprout_impi_store", "", whyStore), text("memento_auth_store", "hostport", whyStore), text("impi_store_mode", "impistore", whyStore),
		text("smtp_smarthost", "host", whyMail), text("smtp_username", "", whyMail), text("smtp_password", "", whyMail), text("email_recovery_sender", "", whyMail),

		text("ralf_diameteridentity", "host", whyCharging), number("ralf_listen_port", "3869", 1, 65535, whyCharging), number("ralf_secure_listen_port", "", 1, 65535, whyCharging),
		number("ralf_diameter_watchdog_timer", "6", 6, month, whyCharging), text("billing_realm", "host", whyCharging), yes("http_acr_logging", "N", whyCharging),
		number("ralf_threads", "25", 1, 10000, whyCores),

		list("bono_servers", "hosts", "accepted, no effect: edges are found by the name of the zone"),

		number("num_http_threads", "", 1, 10000, whyCores), number("num_http_worker_threads", "", 1, 10000, whyCores), number("sprout_http_threads", "", 1, 10000, whyCores),
		number("homestead_http_threads", "", 1, 10000, whyCores), number("num_worker_threads", "", 1, 10000, whyCores), number("sprout_worker_threads", "", 1, 10000, whyCores),
		number("homestead_cache_threads", "", 1, 10000, whyCores), number("exception_max_ttl", "600", 0, month, "accepted, no effect: a request that fails costs only itself, and supervisors restart processes at once"),
		number("astaire_cpu_limit_percentage", "5", 1, 100, "accepted, no effect: there is no memcached to resynchronise"),

		text("memento_hostname", "host", whyAS), number("memento_threads", "25", 1, 10000, whyAS), number("max_call_list_length", "0", 0, 1<<31-1, whyAS),
		number("call_list_store_ttl", "604800", 0, 1<<31-1, whyAS), text("memento_disk_limit", "disklimit", whyAS), text("memento_notify_url", "url", whyAS),

		list("snmp_ip", "ips", whySNMP), list("snmp_notification_types", "snmptypes", whySNMP), yes("sas_use_signaling_interface", "N", whySAS),

		user(text("max_log_directory_size", "disklimit", whyLogs)),
	}
}

// legacy finds an option without effect by its name.
func legacy(name string) (spec, bool) {
	for _, s := range legacyOptions() {
		if s.name == name {
			return s, true
		}
	}
	return pattern(name)
}

// pattern finds options that the manual has once for each process or each function of the router; those of the
// processes that there are here have an effect.
func pattern(name string) (spec, bool) {
	for _, process := range []string{"ralf", "memento", "chronos", "ellis"} {
		if !strings.HasPrefix(name, process+"_") {
			continue
		}
		f, _ := reflect.TypeFor[Options]().FieldByName("EdgeThrottle")
		for _, s := range throttleSpecs(f, process) {
			if s.name == name {
				s.index, s.why = nil, whyThrottle
				return s, true
			}
		}
	}
	return function(name)
}

// function finds the port, prefix and URI of a function of the router.
func function(name string) (spec, bool) {
	for _, f := range []string{"mmtel", "cdiv", "gemini", "memento", "mangelwurzel"} {
		switch name {
		case f:
			return spec{name: name, scope: scopeShared, kind: kindInt, max: 65535, why: whyAS}, true
		case f + "_prefix":
			return spec{name: name, scope: scopeShared, check: "label", def: f, why: whyAS}, true
		case f + "_uri":
			return spec{name: name, scope: scopeShared, check: "sipuri", why: whyAS}, true
		}
	}
	return spec{}, false
}
