variable "name" {
  description = "Name of the environment. Several live side by side, each with a name of its own."
  type        = string
  default     = "local"
}

variable "home_domain" {
  description = "Home domain of the subscribers, and the DNS zone. Default: the environment's name under example.com."
  type        = string
  default     = null
}

variable "root" {
  description = "Folder that holds the state folders of deployments."
  type        = string
  default     = ".state"
}

variable "addresses" {
  description = "Range within 127.0.0.0/8 from which a free /24 is taken."
  type        = string
  default     = "127.64.0.0/10"
}

variable "image" {
  description = "Image manifest, or folder of binaries."
  type        = string
  default     = "../../../bin/images.json"
}

variable "counts" {
  description = "Nodes per role."
  type = object({
    diameter = optional(number, 1)
    xdms     = optional(number, 1)
    router   = optional(number, 1)
    edge     = optional(number, 1)
    portal   = optional(number, 1)
  })
  default = {}
}

variable "dns_ttl" {
  description = "Time to live of DNS records in seconds; a node that leaves waits as long before it drains."
  type        = number
  default     = 5
}

variable "drain_timeout" {
  description = "How long a leaving edge or router may take to finish what it holds."
  type        = string
  default     = "600s"
}

variable "settings" {
  description = "Options of shared_config."
  type        = map(string)
  default     = { reg_max_expires = "300" }
}

variable "user_settings" {
  description = "Options of every node's user_settings."
  type        = map(string)
  default     = {}
}

variable "numbers" {
  description = "Block of numbers that the portal gives out."
  type        = object({ start = string, count = number })
  default     = { start = "6505550000", count = 1000 }
}

variable "passwords" {
  description = "Passwords of the two subscribers by number. They go in as write-only values: neither plan nor state hold them."
  type        = map(string)
  default     = { "6505550800" = "phone-a-secret", "6505550801" = "phone-b-secret" }
  sensitive   = true
}

variable "password_version" {
  description = "A new number sends the passwords again."
  type        = number
  default     = 1
}
