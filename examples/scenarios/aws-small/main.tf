# A small deployment on Amazon's machines: one node of each role, more by `counts`.

locals {
  subscribers = nonsensitive(toset(keys(var.passwords)))
}

module "ims" {
  source = "../../../modules/deployment"

  name          = var.name
  home_domain   = var.home_domain
  cidr          = var.cidr
  image         = var.image
  counts        = var.counts
  subscribers   = var.subscribers
  dns_ttl       = var.dns_ttl
  drain_timeout = var.drain_timeout
  settings      = var.settings
  numbers       = var.numbers
}

resource "clearwater_subscriber" "this" {
  for_each            = local.subscribers
  site_id             = module.ims.site_id
  public_id           = "sip:${each.key}@${var.home_domain}"
  password_wo         = var.passwords[each.key]
  password_wo_version = 1
}

output "home_domain" {
  description = "Domain of the identities."
  value       = module.ims.home_domain
}

output "sip_proxies" {
  description = "Where phones send SIP, UDP or TCP."
  value       = module.ims.sip_proxies
}

output "portal_url" {
  description = "The portal's page and HTTP API."
  value       = module.ims.portal_url
}

output "name_server" {
  description = "Answers for the zone, within the network."
  value       = module.ims.name_server
}

output "nodes" {
  description = "Addresses of all nodes within the network."
  value       = module.ims.nodes
}

output "secrets" {
  description = "Where the generated keys lie, by option name."
  value       = module.ims.secrets
}
