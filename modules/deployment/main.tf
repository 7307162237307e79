# One site with every role. The tiers are chained in the order in which they come up; destroying goes the other way.

locals {
  sized = var.subscribers == null ? null : provider::clearwater::sizes(var.subscribers, var.cores)
  counts = {
    for role in ["store", "diameter", "xdms", "router", "edge", "portal"] :
    role => coalesce(var.counts[role], try(local.sized[role], null), 1)
  }
}

resource "clearwater_deployment" "this" {
  name        = var.name
  home_domain = var.home_domain
}

resource "clearwater_network" "this" {
  deployment_id = clearwater_deployment.this.id
  name          = "core"
  cidr          = var.cidr
}

resource "clearwater_site" "this" {
  deployment_id    = clearwater_deployment.this.id
  network_id       = clearwater_network.this.id
  name             = var.site
  dns_ttl          = var.dns_ttl
  clearwater_names = var.clearwater_names
}

resource "clearwater_tier" "store" {
  site_id       = clearwater_site.this.id
  role          = "store"
  node_count    = local.counts.store
  engine        = local.counts.store > 1 ? "cassandra" : "embedded"
  image         = var.image
  user_settings = var.user_settings
}

resource "clearwater_tier" "diameter" {
  site_id       = clearwater_site.this.id
  role          = "diameter"
  node_count    = local.counts.diameter
  image         = var.image
  user_settings = var.user_settings
  after         = [clearwater_tier.store.id]
}

resource "clearwater_tier" "xdms" {
  site_id       = clearwater_site.this.id
  role          = "xdms"
  node_count    = local.counts.xdms
  image         = var.image
  user_settings = var.user_settings
  after         = [clearwater_tier.store.id]
}

resource "clearwater_tier" "router" {
  site_id       = clearwater_site.this.id
  role          = "router"
  node_count    = local.counts.router
  image         = var.image
  user_settings = var.user_settings
  drain_timeout = var.drain_timeout
  after         = [clearwater_tier.diameter.id, clearwater_tier.xdms.id]
}

resource "clearwater_tier" "edge" {
  site_id       = clearwater_site.this.id
  role          = "edge"
  node_count    = local.counts.edge
  image         = var.image
  user_settings = var.user_settings
  drain_timeout = var.drain_timeout
  after         = [clearwater_tier.router.id]
}

resource "clearwater_tier" "portal" {
  site_id       = clearwater_site.this.id
  role          = "portal"
  node_count    = local.counts.portal
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
  count        = var.numbers != null && local.counts.portal > 0 ? 1 : 0
  site_id      = clearwater_site.this.id
  start        = var.numbers.start
  number_count = var.numbers.count
  depends_on   = [clearwater_tier.portal]
}
