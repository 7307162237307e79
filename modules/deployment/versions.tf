terraform {
  required_version = ">= 1.11"

  required_providers {
    clearwater = {
      source = "clearwater-ims/clearwater"
    }
  }
}
