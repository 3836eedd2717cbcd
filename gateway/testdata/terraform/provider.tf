terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

provider "aws" {}

variable "enabled" {
  type    = bool
  default = true
}

variable "changed" {
  type    = bool
  default = false
}
