#!/usr/bin/env bash
# Runs Vault with the engine, and the KMS endpoint, until Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

prepare
start_vault "$(free_port 8200)"
start_gateway "$(free_port 8203)"

cat <<EOF

Vault serves at $VAULT_ADDR, the KMS endpoint at $endpoint.
Everything is in memory, and gone when you press Ctrl-C. In another terminal:

  export VAULT_ADDR=$VAULT_ADDR VAULT_TOKEN=$VAULT_TOKEN
  export PATH=$work/bin:\$PATH

  vault write $mount/keys/payments/tokens key_spec=HMAC_256
  mac=\$(vault write -field=mac $mount/generate-mac/payments/tokens mac_algorithm=HMAC_SHA_256 message=\$(printf 'pay 10 EUR' | base64))
  vault write $mount/verify-mac/payments/tokens mac_algorithm=HMAC_SHA_256 message=\$(printf 'pay 10 EUR' | base64) mac=\$mac

or with the AWS CLI:

  AWS_ENDPOINT_URL_KMS=$endpoint AWS_ACCESS_KEY_ID=vault AWS_SECRET_ACCESS_KEY=vault AWS_SESSION_TOKEN=$VAULT_TOKEN \\
    aws kms generate-mac --region us-east-1 --key-id payments/tokens --mac-algorithm HMAC_SHA_256 --message fileb://<(printf 'pay 10 EUR')

Logs: $work/vault.log and $work/gateway.log
EOF

while running "$vault_pid" && running "$gateway_pid"; do sleep 1; done
cat "$work/vault.log" "$work/gateway.log" >&2
die "Vault or the KMS endpoint has ended; the logs are above"
