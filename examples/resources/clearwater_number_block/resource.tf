resource "clearwater_number_block" "office" {
  site_id      = clearwater_site.site1.id
  start        = "6505550000"
  number_count = 1000
  depends_on   = [clearwater_tier.portal]
}
