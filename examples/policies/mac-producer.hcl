# For programs that make MACs with the keys of "payments", and do nothing else:
# the counterpart of an IAM policy that allows kms:GenerateMac.
#
# The engine is mounted at kms/. On generate-mac, "patch" allows what "update" allows
# and nothing more: the same request, sent as a PATCH, takes one round trip less.

# By key id.
path "kms/generate-mac/payments/*" {
  capabilities = ["update", "patch"]
}

# By alias. An alias in folder payments/ can only point at keys in payments/, so
# this opens no other team's key.
path "kms/generate-mac/alias/payments/*" {
  capabilities = ["update", "patch"]
}
