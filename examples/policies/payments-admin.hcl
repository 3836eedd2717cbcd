# For the people who look after the keys of "payments". They cannot use the keys
# themselves: neither generate-mac nor verify-mac is here. Be aware that who may
# create grants may let any identity use a key, so that part stands apart below.
#
# The engine is mounted at kms/.

# Create keys, list and read them, change descriptions and tags, and schedule
# deletion with the mount's waiting period.
path "kms/keys/payments/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# See when a key was last used, before its deletion is scheduled.
path "kms/get-key-last-usage/payments/*" {
  capabilities = ["read"]
}

# Programs written for KMS, such as Terraform's AWS provider, ask whether a key
# rotates, and read and put key policies. These decide nothing.
path "kms/get-key-rotation-status/payments/*" {
  capabilities = ["update"]
}
path "kms/get-key-policy/payments/*" {
  capabilities = ["read"]
}
path "kms/put-key-policy/payments/*" {
  capabilities = ["update"]
}

# Choose the waiting period, or stop a deletion before it passes.
path "kms/schedule-key-deletion/payments/*" {
  capabilities = ["update"]
}
path "kms/cancel-key-deletion/payments/*" {
  capabilities = ["update"]
}

# Take a key out of use, and back into it.
path "kms/enable-key/payments/*" {
  capabilities = ["update"]
}
path "kms/disable-key/payments/*" {
  capabilities = ["update"]
}

# Name keys, and move a name to another key.
path "kms/aliases/payments/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "kms/tag-resource/payments/*" {
  capabilities = ["update"]
}
path "kms/untag-resource/payments/*" {
  capabilities = ["update"]
}

# See all keys of the folder, and what is about to happen to them. The vault
# command drops the slash at the end when it reads.
path "kms/inventory/payments" {
  capabilities = ["read", "list"]
}
path "kms/inventory/payments/*" {
  capabilities = ["read", "list"]
}
path "kms/upcoming/payments" {
  capabilities = ["read"]
}
path "kms/upcoming/payments/*" {
  capabilities = ["read"]
}

# Do with many keys or aliases at once what is allowed above with each.
path "kms/bulk/+/payments" {
  capabilities = ["update"]
}
path "kms/bulk/+/payments/*" {
  capabilities = ["update"]
}

# Bring key material along.
path "kms/get-parameters-for-import/payments/*" {
  capabilities = ["update"]
}
path "kms/import-key-material/payments/*" {
  capabilities = ["update"]
}
path "kms/delete-imported-key-material/payments/*" {
  capabilities = ["update"]
}

# Let others use a key without a policy of their own, and take that back. Leave
# this out to keep the use of keys in the hands of those who write policies.
path "kms/create-grant/payments/*" {
  capabilities = ["update"]
}
path "kms/list-grants/payments/*" {
  capabilities = ["read", "update"]
}
path "kms/revoke-grant/payments/*" {
  capabilities = ["update"]
}
path "kms/retire-grant/payments/*" {
  capabilities = ["update"]
}
