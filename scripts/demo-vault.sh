#!/usr/bin/env bash
# Shows what the engine does: each command, and what a real Vault answers. Fails
# if an answer is not as it should be.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

# show <command...>: prints a command and runs it.
show() {
  printf '\n$ %s\n' "$*"
  "$@"
}

# refused <text> <command...>: runs a command that must fail with the text.
refused() {
  local text=$1 output
  shift
  printf '\n$ %s\n' "$*"
  if output=$("$@" 2>&1); then
    printf '%s\n' "$output"
    die "this should have been refused with: $text"
  fi
  printf '%s\n' "$output"
  [[ $output == *"$text"* ]] || die "this should have been refused with: $text"
}

# as <name> <command...>: runs a command with the token of that name, which the
# printed line does not show.
as() {
  local name=$1
  shift
  VAULT_TOKEN=$(cat "$work/$name.token") "$@"
}

# token <name> <policy...>: makes a token with the policies.
token() {
  local name=$1
  shift
  vault token create -ttl=1h "${@/#/-policy=}" -field=token >"$work/$name.token"
}

prepare
# Not the same ports each time: two demos may start at once.
start_vault "$(free_port $((20000 + RANDOM % 5000)))"
start_gateway "$(free_port $((25000 + RANDOM % 5000)))"

key=payments/tokens
algorithm=mac_algorithm=HMAC_SHA_256
message=$(printf 'pay 10 EUR' | base64)
tampered=$(printf 'pay 99 EUR' | base64)

title "A key for HMAC. Its bytes never leave Vault."
show vault write "$mount/keys/$key" key_spec=HMAC_256
show vault read "$mount/keys/$key"

title "A MAC for the message 'pay 10 EUR'."
show vault write "$mount/generate-mac/$key" "$algorithm" "message=$message"
mac=$(vault write -field=mac "$mount/generate-mac/$key" "$algorithm" "message=$message")

title "The MAC fits the message."
show vault write "$mount/verify-mac/$key" "$algorithm" "message=$message" "mac=$mac"

title "It does not fit 'pay 99 EUR'."
refused KMSInvalidMacException \
  vault write "$mount/verify-mac/$key" "$algorithm" "message=$tampered" "mac=$mac"

title "Policies: one program may only make MACs, another may only check them."
show vault policy write mac-producer examples/policies/mac-producer.hcl
show vault policy write mac-verifier examples/policies/mac-verifier.hcl
token producer mac-producer
token verifier mac-verifier

title "With the producer's token."
as producer show vault write "$mount/generate-mac/$key" "$algorithm" "message=$message"
as producer refused "permission denied" \
  vault write "$mount/verify-mac/$key" "$algorithm" "message=$message" "mac=$mac"

title "With the verifier's token."
as verifier show vault write "$mount/verify-mac/$key" "$algorithm" "message=$message" "mac=$mac"
as verifier refused "permission denied" \
  vault write "$mount/generate-mac/$key" "$algorithm" "message=$message"

title "The same key from a program that knows only AWS KMS."
token both mac-producer mac-verifier
printf '\n$ %s\n' "AWS_ENDPOINT_URL_KMS=$endpoint AWS_SESSION_TOKEN=<a Vault token> go run ./examples/aws-sdk-go $key 'pay 10 EUR'"
AWS_ENDPOINT_URL_KMS=$endpoint AWS_REGION=us-east-1 \
  AWS_ACCESS_KEY_ID=vault AWS_SECRET_ACCESS_KEY=vault AWS_SESSION_TOKEN=$(cat "$work/both.token") \
  go run ./examples/aws-sdk-go "$key" 'pay 10 EUR'

title "Done. Vault and the KMS endpoint stop now."
