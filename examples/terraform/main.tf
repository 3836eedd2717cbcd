# The keys of one team, made with Terraform's Vault provider: the mount, a key
# with an alias, and the policies of those who make and who check MACs.
#
#     module "payments" {
#       source = "…/examples/terraform"
#       team   = "payments"
#     }

terraform {
  required_providers {
    vault = {
      source = "hashicorp/vault"
    }
  }
}

resource "vault_mount" "kms" {
  path        = var.mount
  type        = "vault-plugin-secrets-kms-hmac"
  description = "HMAC keys"

  lifecycle {
    prevent_destroy = true # with the mount go its keys, at once
  }
}

resource "vault_generic_endpoint" "settings" {
  path                 = "${vault_mount.kms.path}/config"
  ignore_absent_fields = true
  disable_delete       = true # settings cannot be deleted

  data_json = jsonencode({
    pending_window_in_days = var.pending_window_in_days
  })
}

# Destroying it schedules its deletion; until that date it can be had back with
# cancel-key-deletion.
resource "vault_generic_endpoint" "key" {
  path                 = "${vault_mount.kms.path}/keys/${local.key_id}"
  ignore_absent_fields = true

  data_json = jsonencode({
    key_spec    = var.key_spec
    description = "Tokens of ${var.team}"
    tags        = { team = var.team }
  })
}

# A key that somebody has disabled, or scheduled for deletion, reads the same but
# for its state: a plan fails then.
data "vault_generic_secret" "key" {
  path       = "${vault_mount.kms.path}/keys/${local.key_id}"
  depends_on = [vault_generic_endpoint.key]

  lifecycle {
    postcondition {
      condition     = self.data["key_state"] == "Enabled"
      error_message = "Key ${local.key_id} is ${self.data["key_state"]}."
    }
  }
}

# What programs name. To rotate, make a second key and point the alias at it.
resource "vault_generic_endpoint" "alias" {
  path                 = "${vault_mount.kms.path}/aliases/${var.team}/tokens"
  ignore_absent_fields = true
  depends_on           = [vault_generic_endpoint.key]

  data_json = jsonencode({
    target_key_id = local.key_id
  })
}

resource "vault_policy" "producer" {
  name   = "${var.team}-mac-producer"
  policy = <<-EOT
    path "${vault_mount.kms.path}/generate-mac/alias/${var.team}/*" {
      capabilities = ["update", "patch"]
    }
  EOT
}

resource "vault_policy" "verifier" {
  name   = "${var.team}-mac-verifier"
  policy = <<-EOT
    path "${vault_mount.kms.path}/verify-mac/alias/${var.team}/*" {
      capabilities = ["update", "patch"]
    }
  EOT
}
