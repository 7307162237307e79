output "deployment_id" {
  description = "Id of the deployment."
  value       = clearwater_deployment.this.id
}

output "site_id" {
  description = "Id of the site, for subscribers and further resources; what uses it waits for the tiers diameter and xdms."
  value       = clearwater_site.this.id
  depends_on  = [clearwater_tier.diameter, clearwater_tier.xdms]
}

output "home_domain" {
  description = "Domain of the identities."
  value       = var.home_domain
}

output "counts" {
  description = "Nodes per role, as sized."
  value       = local.counts
}

output "sip_proxies" {
  description = "Where phones send SIP, UDP or TCP."
  value       = clearwater_tier.edge.endpoints
}

output "portal_url" {
  description = "The portal's page and HTTP API; empty without a portal."
  value       = try(clearwater_tier.portal.endpoints[0], "")
}

output "name_server" {
  description = "Answers for the zone."
  value       = clearwater_deployment.this.name_server
}

output "nodes" {
  description = "Addresses of all nodes."
  value = merge(clearwater_tier.store.nodes, clearwater_tier.diameter.nodes, clearwater_tier.xdms.nodes,
  clearwater_tier.router.nodes, clearwater_tier.edge.nodes, clearwater_tier.portal.nodes)
}

output "secrets" {
  description = "Where the generated keys lie, by option name."
  value       = clearwater_deployment.this.secrets
}
