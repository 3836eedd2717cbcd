terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

provider "aws" {}

variable "rewritten" {
  type    = bool
  default = false
}

variable "changed" {
  type    = bool
  default = false
}
