resource "aws_kms_key" "key" {
  description              = var.rewritten ? "Signs invoices" : "Signs orders"
  key_usage                = "GENERATE_VERIFY_MAC"
  customer_master_key_spec = "HMAC_384"
  is_enabled               = !var.rewritten
  deletion_window_in_days  = 7
  tags                     = var.changed ? { team = "billing", stage = "test" } : { team = "payments", old = "yes" }
}

resource "aws_kms_key" "multi_region" {
  key_usage                = "GENERATE_VERIFY_MAC"
  customer_master_key_spec = "HMAC_256"
  multi_region             = true
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = var.rewritten ? "Policies of Vault decide" : "Vault decides"
      Effect    = "Allow"
      Principal = { AWS = "arn:aws:iam::111122223333:root" }
      Action    = "kms:*"
      Resource  = "*"
    }]
  })
}

data "aws_kms_key" "key" {
  key_id = aws_kms_key.key.arn
}

output "key" {
  value = {
    "aws_kms_key.key"          = aws_kms_key.key.key_id
    "aws_kms_key.multi_region" = aws_kms_key.multi_region.key_id
  }
}
