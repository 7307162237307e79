variable "name" {
  description = "Name of the deployment, unique on its platform."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$", var.name))
    error_message = "name is a DNS label: 1 to 32 lower-case letters, digits and inner hyphens."
  }
}

variable "home_domain" {
  description = "Home domain of the subscribers, and the DNS zone. It cannot be changed later."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.home_domain))
    error_message = "home_domain is a DNS name in lower case with at least two labels, such as ims.example.com."
  }
}

variable "site" {
  description = "Name of the site; part of its nodes' DNS names."
  type        = string
  default     = "site1"
}

variable "cidr" {
  description = "Range of the network. Without it the platform takes a free one."
  type        = string
  default     = null
}

variable "image" {
  description = "Image manifest; on the local platform also a folder of binaries."
  type        = string
}

variable "counts" {
  description = "Nodes per role. Roles that are left out get what `subscribers` asks for, or one node."
  type = object({
    store    = optional(number)
    diameter = optional(number)
    xdms     = optional(number)
    router   = optional(number)
    edge     = optional(number)
    portal   = optional(number)
  })
  default = {}

  validation {
    condition     = alltrue([for n in values(var.counts) : n == null || try(n >= 0 && floor(n) == n, false)])
    error_message = "counts are whole numbers of 0 or more."
  }

  validation {
    condition     = try(var.counts.store, null) == null || try(var.counts.store != 2 && var.counts.store != 0, true)
    error_message = "counts.store is 1 (embedded engine), or 3 or more (Cassandra): two store nodes survive nothing that one does not."
  }
}

variable "subscribers" {
  description = "Sizes every tier that `counts` leaves out for so many subscribers (see the function `sizes`)."
  type        = number
  default     = null

  validation {
    condition     = var.subscribers == null || try(var.subscribers >= 1 && floor(var.subscribers) == var.subscribers, false)
    error_message = "subscribers is a whole number of 1 or more."
  }
}

variable "cores" {
  description = "Cores of a node, for `subscribers`."
  type        = number
  default     = 2
}

variable "dns_ttl" {
  description = "Time to live of DNS records in seconds; a node that leaves waits as long before it drains."
  type        = number
  default     = 5
}

variable "clearwater_names" {
  description = "Also publish the cluster names of Project Clearwater."
  type        = bool
  default     = false
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

  validation {
    condition     = length(var.settings) > 0
    error_message = "settings needs at least one option."
  }
}

variable "user_settings" {
  description = "Options of every node's user_settings."
  type        = map(string)
  default     = {}
}

variable "numbers" {
  description = "Block of numbers that the portal gives out; null for none."
  type        = object({ start = string, count = number })
  default     = null
}
