# One policy for all teams: an entity works in the folder that its metadata
# names, so that a new team is an entry in Vault's identities and no policy.
# Metadata of entities is for administrators: who may write identity/entity may
# be any team.
#
#   vault write identity/entity name=checkout metadata=team=payments

path "kms/+/{{identity.entity.metadata.team}}/*" {
  capabilities = ["create", "read", "update", "patch", "delete", "list"]
}

path "kms/+/alias/{{identity.entity.metadata.team}}/*" {
  capabilities = ["read", "update", "patch"]
}
