package config

// DocumentTypes lists the documents that cw config knows beside shared_config, by their public type names.
func DocumentTypes() []string {
	return []string{"scscf_json", "bgcf_json", "enum_json", "rph_json", "dns_json", "sas_json", "shared_ifcs", "fallback_ifcs"}
}
