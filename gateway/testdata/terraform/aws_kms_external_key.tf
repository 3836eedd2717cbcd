resource "aws_kms_external_key" "external" {
  description = "Not for HMAC keys in version 5 of the provider"
}
