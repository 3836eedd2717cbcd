resource "aws_kms_key" "aliased" {
  count                    = 2
  key_usage                = "GENERATE_VERIFY_MAC"
  customer_master_key_spec = "HMAC_256"
}

resource "aws_kms_alias" "alias" {
  name          = "alias/tokens"
  target_key_id = aws_kms_key.aliased[var.changed ? 1 : 0].key_id
}

data "aws_kms_alias" "alias" {
  name = aws_kms_alias.alias.name
}

data "aws_kms_key" "aliased" {
  key_id = aws_kms_alias.alias.name
}

output "alias" {
  value = {
    "aws_kms_alias.alias" = aws_kms_alias.alias.name
  }
}
