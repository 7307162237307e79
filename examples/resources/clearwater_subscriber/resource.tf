variable "front_desk_password" {
  type      = string
  ephemeral = true
}

resource "clearwater_subscriber" "front_desk" {
  site_id             = clearwater_site.site1.id
  public_id           = "sip:6505550100@lab.example.com"
  further_public_ids  = ["sip:front-desk@lab.example.com"]
  password_wo         = var.front_desk_password
  password_wo_version = 1
  depends_on          = [clearwater_tier.diameter, clearwater_tier.xdms]
}
