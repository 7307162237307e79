variable "name" {
  description = "Name of the deployment in the account's region."
  type        = string
  default     = "ims"
}

variable "home_domain" {
  description = "Home domain of the subscribers. It, or a parent, is a public hosted zone of the account unless private_zone is set."
  type        = string
}

variable "region" {
  description = "AWS region; default the environment's."
  type        = string
  default     = null
}

variable "image" {
  description = "Image manifest that names an AMI of each role for the region, or the id of one AMI that holds all roles."
  type        = string
}

variable "counts" {
  description = "Nodes per role."
  type        = map(number)
  default     = {}
}

variable "subscribers" {
  description = "Sizes the tiers that counts leaves out."
  type        = number
  default     = null
}

variable "cidr" {
  description = "Range of the VPC, /16 to /22; default a free 10.n.0.0/16."
  type        = string
  default     = null
}

variable "private_zone" {
  description = "Make a zone that only the deployment's network sees."
  type        = bool
  default     = false
}

variable "private_addresses" {
  description = "No public addresses for edges and portal."
  type        = bool
  default     = false
}

variable "operator_cidrs" {
  description = "Ranges from which management ports and SSH are open."
  type        = list(string)
  default     = []
}

variable "key_pair" {
  description = "SSH key pair of the nodes."
  type        = string
  default     = null
}

variable "instance_type" {
  description = "Instance type of the nodes."
  type        = string
  default     = "t3.medium"
}

variable "resolver" {
  description = "Name server of the nodes; default the VPC's own."
  type        = string
  default     = null
}

variable "endpoint" {
  description = "URL of an emulator of AWS."
  type        = string
  default     = null
}

variable "dns_ttl" {
  description = "Time to live of DNS records in seconds."
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

variable "numbers" {
  description = "Block of numbers that the portal gives out; null for none."
  type        = object({ start = string, count = number })
  default     = { start = "6505550000", count = 1000 }
}

variable "passwords" {
  description = "Passwords of subscribers by number. They go in as write-only values: neither plan nor state hold them."
  type        = map(string)
  default     = {}
  sensitive   = true
}
