# For programs that check MACs made with the keys of "payments" but must not be
# able to make any: the counterpart of an IAM policy that allows kms:VerifyMac.
#
# The engine is mounted at kms/.

# By key id.
path "kms/verify-mac/payments/*" {
  capabilities = ["update"]
}

# By alias.
path "kms/verify-mac/alias/payments/*" {
  capabilities = ["update"]
}
