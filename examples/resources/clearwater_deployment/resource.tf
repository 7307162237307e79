resource "clearwater_deployment" "lab" {
  name        = "lab"
  home_domain = "lab.example.com"
}
