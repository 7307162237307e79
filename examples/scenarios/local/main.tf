# A whole IMS core on this machine: every node is a process with an address of its own.

locals {
  home_domain = coalesce(var.home_domain, "${var.name}.example.com")
  subscribers = nonsensitive(toset(keys(var.passwords)))
}

resource "clearwater_deployment" "this" {
  name        = var.name
  home_domain = local.home_domain
}

resource "clearwater_network" "this" {
  deployment_id = clearwater_deployment.this.id
  name          = "core"
}

resource "clearwater_site" "this" {
  deployment_id = clearwater_deployment.this.id
  network_id    = clearwater_network.this.id
  name          = "site1"
  dns_ttl       = var.dns_ttl
}

# The tiers, chained in the order in which they come up. Destroying goes the other way.

resource "clearwater_tier" "store" {
  site_id       = clearwater_site.this.id
  role          = "store"
  node_count    = 1
  image         = var.image
  user_settings = var.user_settings
}

resource "clearwater_tier" "diameter" {
  site_id       = clearwater_site.this.id
  role          = "diameter"
  node_count    = var.counts.diameter
  image         = var.image
  user_settings = var.user_settings
  after         = [clearwater_tier.store.id]
}

resource "clearwater_tier" "xdms" {
  site_id       = clearwater_site.this.id
  role          = "xdms"
  node_count    = var.counts.xdms
  image         = var.image
  user_settings = var.user_settings
  after         = [clearwater_tier.store.id]
}

resource "clearwater_tier" "router" {
  site_id       = clearwater_site.this.id
  role          = "router"
  node_count    = var.counts.router
  image         = var.image
  user_settings = var.user_settings
  drain_timeout = var.drain_timeout
  after         = [clearwater_tier.diameter.id, clearwater_tier.xdms.id]
}

resource "clearwater_tier" "edge" {
  site_id       = clearwater_site.this.id
  role          = "edge"
  node_count    = var.counts.edge
  image         = var.image
  user_settings = var.user_settings
  drain_timeout = var.drain_timeout
  after         = [clearwater_tier.router.id]
}

resource "clearwater_tier" "portal" {
  site_id       = clearwater_site.this.id
  role          = "portal"
  node_count    = var.counts.portal
  image         = var.image
  user_settings = var.user_settings
  after         = [clearwater_tier.diameter.id, clearwater_tier.xdms.id]
}

resource "clearwater_shared_config" "this" {
  site_id    = clearwater_site.this.id
  settings   = var.settings
  depends_on = [clearwater_tier.store]
}

resource "clearwater_number_block" "this" {
  count        = var.counts.portal > 0 ? 1 : 0
  site_id      = clearwater_site.this.id
  start        = var.numbers.start
  number_count = var.numbers.count
  depends_on   = [clearwater_tier.portal]
}

resource "clearwater_subscriber" "this" {
  for_each            = local.subscribers
  site_id             = clearwater_site.this.id
  public_id           = "sip:${each.key}@${local.home_domain}"
  password_wo         = var.passwords[each.key]
  password_wo_version = var.password_version
  depends_on          = [clearwater_tier.diameter, clearwater_tier.xdms]
}
