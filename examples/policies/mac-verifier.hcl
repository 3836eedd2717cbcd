# For programs that check MACs made with the keys of "payments" but must not be
# able to make any: the counterpart of an IAM policy that allows kms:VerifyMac.
#
# The engine is mounted at kms/. On verify-mac, "patch" allows what "update" allows
# and nothing more: the same request, sent as a PATCH, takes one round trip less.

# By key id.
path "kms/verify-mac/payments/*" {
  capabilities = ["update", "patch"]
}

# By alias.
path "kms/verify-mac/alias/payments/*" {
  capabilities = ["update", "patch"]
}
