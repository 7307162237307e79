output "sip_proxy" {
  description = "Where phones send SIP, UDP or TCP."
  value       = try(clearwater_tier.edge.endpoints[0], "")
}

output "sip_proxies" {
  description = "All of them."
  value       = clearwater_tier.edge.endpoints
}

output "portal_url" {
  description = "The portal's page and HTTP API."
  value       = try(clearwater_tier.portal.endpoints[0], "")
}

output "home_domain" {
  description = "Domain of the identities."
  value       = local.home_domain
}

output "identities" {
  description = "Public identities of the subscribers."
  value       = sort([for s in clearwater_subscriber.this : s.public_id])
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
