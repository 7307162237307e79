resource "clearwater_shared_config" "this" {
  site_id = clearwater_site.site1.id

  settings = {
    reg_max_expires       = "600"
    nonce_count_supported = "Y"
  }

  depends_on = [clearwater_tier.store]
}
