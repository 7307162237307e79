resource "clearwater_tier" "store" {
  site_id    = clearwater_site.site1.id
  role       = "store"
  node_count = 1
  image      = "bin/images.json"
}

resource "clearwater_tier" "diameter" {
  site_id    = clearwater_site.site1.id
  role       = "diameter"
  node_count = 2
  image      = "bin/images.json"
  after      = [clearwater_tier.store.id]
}

resource "clearwater_tier" "router" {
  site_id          = clearwater_site.site1.id
  role             = "router"
  node_count       = 3
  image            = "bin/images.json"
  after            = [clearwater_tier.diameter.id]
  drain_timeout    = "90s"
  drain_on_destroy = true

  user_settings = {
    log_level = "3"
  }

  timeouts = {
    update = "15m"
  }
}
