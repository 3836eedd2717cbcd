variable "mount" {
  description = "Where the secrets engine is mounted."
  type        = string
  default     = "kms"
}

variable "team" {
  description = "The folder of the team's keys and aliases."
  type        = string
}

variable "key_spec" {
  description = "HMAC_224, HMAC_256, HMAC_384 or HMAC_512."
  type        = string
  default     = "HMAC_256"
}

variable "pending_window_in_days" {
  description = "How long a deletion can be cancelled, 7 to 30 days."
  type        = number
  default     = 30
}

locals {
  key_id = "${var.team}/tokens-2026"
}
