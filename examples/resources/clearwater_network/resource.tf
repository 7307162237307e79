resource "clearwater_network" "core" {
  deployment_id = clearwater_deployment.lab.id
  name          = "core"
}
