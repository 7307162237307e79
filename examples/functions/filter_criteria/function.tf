# INVITEs that the subscriber originates, and messages about an emergency, visit an application server first.
resource "clearwater_subscriber" "alice" {
  site_id             = clearwater_site.site1.id
  public_id           = "sip:6505550100@lab.example.com"
  password_wo         = var.password
  password_wo_version = 1
  filter_criteria = provider::clearwater::filter_criteria([
    {
      priority         = 0
      server           = "sip:as.example.com:5060"
      default_handling = "terminated"
      conditions = [
        [{ method = "INVITE" }, { method = "MESSAGE" }],
        [{ session_case = "originating" }],
      ]
    },
    {
      priority                 = 1
      server                   = "sip:presence.example.com"
      include_register_request = true
      conditions               = [[{ method = "REGISTER", registration_types = ["initial", "deregistration"] }]]
    },
  ])
}
