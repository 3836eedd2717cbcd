output "alias" {
  description = "What programs pass to generate-mac and verify-mac."
  value       = "alias/${var.team}/tokens"
}

output "policies" {
  description = "For the programs that make MACs, and for those that check them."
  value = {
    producer = vault_policy.producer.name
    verifier = vault_policy.verifier.name
  }
}
