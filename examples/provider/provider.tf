terraform {
  required_providers {
    clearwater = {
      source = "clearwater-ims/clearwater"
    }
  }
}

provider "clearwater" {
  local = {
    root = ".state"
  }
}
