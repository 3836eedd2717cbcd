# Checks of R's paws; scripts/clients.sh runs them.
library(paws.security.identity)

failed <- FALSE
report <- function(good, name, detail = "") {
  if (!isTRUE(good)) failed <<- TRUE
  cat(if (isTRUE(good)) "ok   " else "FAIL ", "r:", name, if (isTRUE(good)) "" else detail, "\n")
}

# The call must fail. paws has no class for an exception: its name and the status
# begin the message.
refused <- function(exception, call) {
  text <- tryCatch({ force(call); "it succeeded" }, error = conditionMessage)
  report(startsWith(text, paste(exception, "(HTTP 400).")), exception, text)
}

kms <- kms(config = list(endpoint = Sys.getenv("AWS_ENDPOINT_URL_KMS"), region = "us-east-1"))
message <- charToRaw("pay 10 EUR")
cat("      r: paws.security.identity", as.character(packageVersion("paws.security.identity")), "\n")

key <- kms$create_key(KeySpec = "HMAC_256", KeyUsage = "GENERATE_VERIFY_MAC")$KeyMetadata
report(key$KeySpec == "HMAC_256", "create_key")
mac <- kms$generate_mac(KeyId = key$KeyId, Message = message, MacAlgorithm = "HMAC_SHA_256")
report(length(mac$Mac) == 32 && mac$KeyId == key$Arn, "generate_mac")
report(kms$verify_mac(KeyId = key$Arn, Message = message, Mac = mac$Mac, MacAlgorithm = "HMAC_SHA_256")$MacValid, "verify_mac")
refused("KMSInvalidMacException", kms$verify_mac(KeyId = key$KeyId, Message = message, Mac = message, MacAlgorithm = "HMAC_SHA_256"))
refused("NotFoundException", kms$describe_key(KeyId = "nonsense"))
invisible(kms$create_alias(AliasName = "alias/r", TargetKeyId = key$KeyId))
report(identical(kms$generate_mac(KeyId = "alias/r", Message = message, MacAlgorithm = "HMAC_SHA_256")$Mac, mac$Mac), "generate_mac by alias")
invisible(kms$delete_alias(AliasName = "alias/r"))
invisible(kms$tag_resource(KeyId = key$KeyId, Tags = list(list(TagKey = "a", TagValue = "1"))))
report(kms$list_resource_tags(KeyId = key$KeyId)$Tags[[1]]$TagValue == "1", "list_resource_tags")
invisible(kms$disable_key(KeyId = key$KeyId))
refused("DisabledException", kms$generate_mac(KeyId = key$KeyId, Message = message, MacAlgorithm = "HMAC_SHA_256"))
invisible(kms$enable_key(KeyId = key$KeyId))
report(kms$schedule_key_deletion(KeyId = key$KeyId, PendingWindowInDays = 7)$KeyState == "PendingDeletion", "schedule_key_deletion")
report(kms$cancel_key_deletion(KeyId = key$KeyId)$KeyId == key$Arn, "cancel_key_deletion")
report(length(kms$list_keys()$Keys) > 0, "list_keys")
quit(status = if (failed) 1 else 0)
