terraform {
  required_version = ">= 1.11"

  required_providers {
    clearwater = {
      source = "clearwater-ims/clearwater"
    }
  }
}

provider "clearwater" {
  aws = {
    region            = var.region
    endpoint          = var.endpoint
    private_zone      = var.private_zone
    private_addresses = var.private_addresses
    resolver          = var.resolver
    operator_cidrs    = var.operator_cidrs
    key_pair          = var.key_pair
    instance_type     = var.instance_type
    default_tags      = { project = "clearwater" }
  }
}
