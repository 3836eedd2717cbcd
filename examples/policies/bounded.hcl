# What policies can say of fields: MACs of single messages by one algorithm, and
# new keys of one kind. Without "update", existing keys stay as they are.

path "kms/generate-mac/payments/*" {
  capabilities        = ["update", "patch"]
  required_parameters = ["message"]
  allowed_parameters  = { "message" = [], "mac_algorithm" = ["HMAC_SHA_512"] }
}

path "kms/keys/payments/*" {
  capabilities       = ["create"]
  allowed_parameters = { "key_spec" = ["HMAC_512"], "description" = [] }
}
