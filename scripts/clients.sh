#!/usr/bin/env bash
# Tries the KMS endpoint with unmodified AWS clients against a real Vault: the
# AWS CLI, boto3, the JavaScript SDK and R's paws, those that are installed.
# Prints a line for each check, and fails if one fails.
#
#   scripts/clients.sh            all clients
#   scripts/clients.sh boto3 js   these
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
source scripts/lib.sh

clients=("$@")
[ "${#clients[@]}" -gt 0 ] || clients=(cli boto3 js r)
failed=0
ran=0

# client <name> <needs> <command...>: runs the checks of a client if the command
# it needs is there.
client() {
  local name=$1 needs=$2
  shift 2
  if [[ " ${clients[*]} " != *" $name "* ]]; then return; fi
  if ! command -v "$needs" >/dev/null; then
    echo "skip  $name: $needs is not installed"
    return
  fi
  ran=$((ran + 1))
  "$@" || failed=1
}

boto3_checks() {
  if ! python3 -c 'import boto3' 2>/dev/null; then
    echo "skip  boto3: it is not installed"
    return
  fi
  python3 scripts/clients/boto3_checks.py
}

# The SDK is installed into the work folder, which goes with the script.
js_checks() {
  mkdir -p "$work/js"
  cp scripts/clients/js_checks.mjs "$work/js/"
  if ! npm install --prefix "$work/js" --no-audit --no-fund --loglevel=error @aws-sdk/client-kms >"$work/npm.log" 2>&1; then
    echo "skip  js: @aws-sdk/client-kms cannot be installed"
    return
  fi
  node "$work/js/js_checks.mjs"
}

r_checks() {
  if ! Rscript -e 'library(paws.security.identity)' >/dev/null 2>&1; then
    echo "skip  r: paws.security.identity is not installed"
    return
  fi
  Rscript scripts/clients/paws_checks.R
}

prepare
start_vault "$(free_port $((20000 + RANDOM % 5000)))"
start_gateway "$(free_port $((25000 + RANDOM % 5000)))"

# What an unmodified client needs: an address, a Region, and credentials whose
# session token is a Vault token.
export AWS_ENDPOINT_URL_KMS=$endpoint AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
export AWS_ACCESS_KEY_ID=vault AWS_SECRET_ACCESS_KEY=vault AWS_SESSION_TOKEN=$VAULT_TOKEN
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true
export NO_PROXY=$host no_proxy=$host
# A token that may do nothing, for AccessDeniedException.
nobody=$(vault token create -policy=default -ttl=1h -field=token)
export NOBODY_TOKEN=$nobody CLIENTS_WORK=$work

client cli aws scripts/clients/cli_checks.sh
client boto3 python3 boto3_checks
client js npm js_checks
client r Rscript r_checks

[ "$ran" -gt 0 ] || die "none of these clients is installed: ${clients[*]}"
if [ "$failed" -ne 0 ]; then
  tail -n 20 "$work/gateway.log" >&2
  die "some checks failed"
fi
echo "all checks passed"
