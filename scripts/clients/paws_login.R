# Checks that R's paws logs in by itself; scripts/clients.sh runs them. Its
# environment has no token.
library(paws.security.identity)

how <- Sys.getenv("LOGIN_BY")
kms <- kms(config = list(endpoint = Sys.getenv("AWS_ENDPOINT_URL"), region = "us-east-1"))
mac <- function() kms$generate_mac(KeyId = "payments/tokens", Message = charToRaw("pay 10 EUR"), MacAlgorithm = "HMAC_SHA_256")$Mac
first <- mac()
end <- Sys.time() + as.numeric(Sys.getenv("LOGIN_SECONDS"))
good <- TRUE
while (Sys.time() < end) {
  good <- good && identical(mac(), first)
  Sys.sleep(0.5)
}
cat(if (good) "ok   " else "FAIL ", " r: generate_mac across a refresh by ", how, "\n", sep = "")
quit(status = if (good) 0 else 1)
