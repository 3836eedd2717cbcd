resource "aws_kms_key" "granted" {
  key_usage                = "GENERATE_VERIFY_MAC"
  customer_master_key_spec = "HMAC_256"
}

resource "aws_kms_grant" "grant" {
  name              = "verifiers"
  key_id            = aws_kms_key.granted.key_id
  grantee_principal = "arn:aws:iam::111122223333:user/verifier"
  operations        = var.changed ? ["VerifyMac", "DescribeKey"] : ["VerifyMac"]
}

output "grant" {
  value = {
    "aws_kms_grant.grant" = aws_kms_grant.grant.id
  }
}
