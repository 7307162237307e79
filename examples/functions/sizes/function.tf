locals {
  sizes = provider::clearwater::sizes(50000, 2)
}

resource "clearwater_tier" "edge" {
  site_id    = clearwater_site.site1.id
  role       = "edge"
  node_count = local.sizes.edge
}
