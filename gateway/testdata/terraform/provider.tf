terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

provider "aws" {
  skip_requesting_account_id  = true
  skip_credentials_validation = true
}

variable "enabled" {
  type    = bool
  default = true
}

variable "changed" {
  type    = bool
  default = false
}
