#!/usr/bin/env bash
# Shows the KMS without Vault, kms-gateway -dev, in seconds: each call, and what
# is answered. Fails if an answer is not as it should be.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

# kms <operation> <input> <text>: makes a call, signed as an AWS SDK does, and
# shows it. The answer must hold the text.
kms() {
  printf '\n$ kms %s %s\n' "$1" "'$2'"
  answer=$(curl -s --aws-sigv4 aws:amz:us-east-1:kms --user any:any \
    -H "X-Amz-Target: TrentService.$1" -d "$2" "$endpoint")
  printf '%s\n' "${answer:-(no output, as in KMS)}"
  [[ $answer == *"$3"* ]] || die "the answer should have: $3"
}

# control <path> <body>: has the KMS do what only one for tests does.
control() {
  printf '\n$ curl -X PUT %s%s -d %s\n' "$endpoint" "$1" "'$2'"
  curl -sf -X PUT "$endpoint$1" -d "$2"
}

command -v curl >/dev/null || die "this needs curl"
echo "Building kms-gateway: seconds, and some minutes the first time, while Go downloads and compiles its modules."
make --no-print-directory bin/kms-gateway
start_dev "$(free_port $((25000 + RANDOM % 5000)))"

message=$(printf 'pay 10 EUR' | base64)
tampered=$(printf 'pay 99 EUR' | base64)
key='"KeyId": "alias/tokens", "MacAlgorithm": "HMAC_SHA_256"'

title "A key for HMAC, and an alias for it, as in AWS KMS."
kms CreateKey '{"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}' '"KeyState":"Enabled"'
id=$(sed -E 's/.*"KeyId":"([^"]+)".*/\1/' <<<"$answer")
kms CreateAlias "{\"AliasName\": \"alias/tokens\", \"TargetKeyId\": \"$id\"}" ''

title "A MAC for the message 'pay 10 EUR'. It fits that message, and no other."
kms GenerateMac "{$key, \"Message\": \"$message\"}" '"Mac":'
mac=$(sed -E 's/.*"Mac":"([^"]+)".*/\1/' <<<"$answer")
kms VerifyMac "{$key, \"Message\": \"$message\", \"Mac\": \"$mac\"}" '"MacValid":true'
kms VerifyMac "{$key, \"Message\": \"$tampered\", \"Mac\": \"$mac\"}" KMSInvalidMacException

title "For tests: a call that is throttled, once."
control /dev/faults '{"faults": [{"operation": "GenerateMac", "error": "ThrottlingException", "times": 1}]}'
kms GenerateMac "{$key, \"Message\": \"$message\"}" ThrottlingException
kms GenerateMac "{$key, \"Message\": \"$message\"}" "$mac"

title "A key that is to be deleted makes no MACs, and is gone 30 days later."
kms ScheduleKeyDeletion "{\"KeyId\": \"$id\"}" PendingDeletion
kms GenerateMac "{$key, \"Message\": \"$message\"}" KMSInvalidStateException
control /dev/clock '{"advance": "720h"}'
kms GenerateMac "{$key, \"Message\": \"$message\"}" NotFoundException

title "Done. This was a KMS for tests, without Vault: docs/testing.md."
echo "The same engine in a real Vault, with policies: make demo-vault (needs vault, or builds it once, in 10 to 25 minutes)."
