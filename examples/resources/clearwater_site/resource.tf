resource "clearwater_site" "site1" {
  deployment_id = clearwater_deployment.lab.id
  network_id    = clearwater_network.core.id
  name          = "site1"
  dns_ttl       = 5
}
