#!/usr/bin/env bash
# Checks of the AWS CLI, version 1 or 2; scripts/clients.sh runs them.
set -uo pipefail

# Versions of before 2.13 and 1.29 do not know the variable.
aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL_KMS" "$@"; }

version=$(aws --version 2>&1)
version=${version%% *}
failed=0
output=

report() {
  if [ "$1" = ok ]; then
    echo "ok    cli: $2"
  else
    echo "FAIL  cli: $2: $output"
    failed=1
  fi
}

# ok <name> <arguments of aws kms...>: must succeed; its output is in $output.
ok() {
  local name=$1
  shift
  if output=$(aws kms "$@" --output json 2>&1); then report ok "$name"; else report fail "$name"; fi
}

# same <name> <wanted>: $output must be this.
same() {
  if [ "$output" = "$2" ]; then report ok "$1"; else report fail "$1 (wanted $2)"; fi
}

# refused <exception> <arguments...>: must fail with the exception.
refused() {
  local exception=$1
  shift
  if output=$(aws kms "$@" 2>&1); then report fail "$exception"; return; fi
  if [[ $output == *"($exception)"* ]]; then report ok "$exception by $1"; else report fail "$exception by $1"; fi
}

# field <arguments...>: one member of an answer, as text.
field() {
  local query=$1
  shift
  aws kms "$@" --output text --query "$query"
}

cd "$CLIENTS_WORK" || exit 1
echo "      cli: $version"
printf 'pay 10 EUR' >message

ok create-key create-key --key-spec HMAC_256 --key-usage GENERATE_VERIFY_MAC --description cli --tags TagKey=team,TagValue=cli
key=$(jq -r .KeyMetadata.KeyId <<<"$output")
arn=$(jq -r .KeyMetadata.Arn <<<"$output")
mac_arguments=(--mac-algorithm HMAC_SHA_256 --message fileb://message)

output=$(field KeyMetadata.MacAlgorithms[0] describe-key --key-id "$arn")
same describe-key HMAC_SHA_256
output=$(field "length(Keys[?KeyId=='$key'])" list-keys)
same list-keys 1

field Mac generate-mac --key-id "$key" "${mac_arguments[@]}" | base64 -d >mac
output=$(wc -c <mac | tr -d ' ')
same generate-mac 32
output=$(field MacValid verify-mac --key-id "$key" "${mac_arguments[@]}" --mac fileb://mac)
same verify-mac True
refused KMSInvalidMacException verify-mac --key-id "$key" "${mac_arguments[@]}" --mac fileb://message
refused InvalidKeyUsageException generate-mac --key-id "$key" --mac-algorithm HMAC_SHA_512 --message fileb://message
output=$(aws kms generate-mac --key-id "$key" "${mac_arguments[@]}" --dry-run 2>&1)
if [[ $output == *"Unknown options"* ]]; then
  echo "skip  cli: --dry-run, which this version does not know"
else
  refused DryRunOperationException generate-mac --key-id "$key" "${mac_arguments[@]}" --dry-run
fi
refused InvalidGrantTokenException generate-mac --key-id "$key" "${mac_arguments[@]}" --grant-tokens nonsense
refused ValidationException generate-mac --key-id "$key" --mac-algorithm HMAC_SHA_1 --message fileb://message
refused NotFoundException generate-mac --key-id alias/nope "${mac_arguments[@]}"

ok create-alias create-alias --alias-name alias/cli --target-key-id "$arn"
refused AlreadyExistsException create-alias --alias-name alias/cli --target-key-id "$arn"
output=$(field KeyId generate-mac --key-id alias/cli "${mac_arguments[@]}")
same "generate-mac by alias" "$arn"
output=$(field "Aliases[0].AliasName" list-aliases --key-id "$key")
same list-aliases alias/cli
refused InvalidArnException enable-key --key-id alias/cli
ok delete-alias delete-alias --alias-name alias/cli

ok disable-key disable-key --key-id "$key"
refused DisabledException generate-mac --key-id "$key" "${mac_arguments[@]}"
ok enable-key enable-key --key-id "$key"

ok tag-resource tag-resource --key-id "$key" --tags TagKey=a,TagValue=b
refused TagException tag-resource --key-id "$key" --tags TagKey=aws:a,TagValue=b
ok untag-resource untag-resource --key-id "$key" --tag-keys team
output=$(aws kms list-resource-tags --key-id "$key" --output json | jq -c .Tags)
same list-resource-tags '[{"TagKey":"a","TagValue":"b"}]'
output=$(field Policy get-key-policy --key-id "$key" --policy-name default | jq -r .Id)
same get-key-policy key-default-1

ok schedule-key-deletion schedule-key-deletion --key-id "$key" --pending-window-in-days 7
refused KMSInvalidStateException generate-mac --key-id "$key" "${mac_arguments[@]}"
ok cancel-key-deletion cancel-key-deletion --key-id "$key"

ok "create-key EXTERNAL" create-key --key-spec HMAC_256 --key-usage GENERATE_VERIFY_MAC --origin EXTERNAL
external=$(jq -r .KeyMetadata.KeyId <<<"$output")
ok get-parameters-for-import get-parameters-for-import --key-id "$external" \
  --wrapping-algorithm RSAES_OAEP_SHA_256 --wrapping-key-spec RSA_3072
jq -r .PublicKey <<<"$output" | base64 -d >public.der
jq -r .ImportToken <<<"$output" | base64 -d >token
openssl rand 32 >material
openssl pkeyutl -encrypt -pubin -keyform DER -inkey public.der -in material -out wrapped \
  -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256
ok import-key-material import-key-material --key-id "$external" --encrypted-key-material fileb://wrapped \
  --import-token fileb://token --expiration-model KEY_MATERIAL_EXPIRES --valid-to "$(($(date +%s) + 3600))"
output=$(field Mac generate-mac --key-id "$external" "${mac_arguments[@]}")
same "MAC under imported material" "$(openssl dgst -sha256 -mac HMAC -macopt "hexkey:$(od -An -tx1 material | tr -d ' \n')" -binary message | base64)"
refused InvalidImportTokenException import-key-material --key-id "$external" --encrypted-key-material fileb://wrapped \
  --import-token fileb://message --expiration-model KEY_MATERIAL_DOES_NOT_EXPIRE
ok delete-imported-key-material delete-imported-key-material --key-id "$external"

AWS_SESSION_TOKEN=$NOBODY_TOKEN refused AccessDeniedException generate-mac --key-id "$key" "${mac_arguments[@]}"
AWS_SESSION_TOKEN=nonsense refused UnrecognizedClientException list-keys

exit "$failed"
