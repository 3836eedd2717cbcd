#!/usr/bin/env bash
# Tries the KMS endpoint with unmodified AWS clients against a real Vault: the
# AWS CLI, boto3, the JavaScript SDK and R's paws, those that are installed.
# Prints a line for each check, and fails if one fails. First each has a Vault
# token; then none has any, and it logs in by itself.
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
  python3 scripts/clients/boto3_checks.py && login python3 scripts/clients/boto3_login.py
}

cli_checks() {
  scripts/clients/cli_checks.sh && login scripts/clients/cli_login.sh
}

# The SDK is installed into the work folder, which goes with the script.
js_checks() {
  mkdir -p "$work/js"
  cp scripts/clients/js_checks.mjs scripts/clients/js_login.mjs "$work/js/"
  if ! npm install --prefix "$work/js" --no-audit --no-fund --loglevel=error @aws-sdk/client-kms >"$work/npm.log" 2>&1; then
    echo "skip  js: @aws-sdk/client-kms cannot be installed"
    return
  fi
  node "$work/js/js_checks.mjs" && login node "$work/js/js_login.mjs"
}

r_checks() {
  if ! Rscript -e 'library(paws.security.identity)' >/dev/null 2>&1; then
    echo "skip  r: paws.security.identity is not installed"
    return
  fi
  Rscript scripts/clients/paws_checks.R && login Rscript scripts/clients/paws_login.R
}

# Vault's JWT auth method, which trusts a key pair of this script; how long its
# logins last, in seconds; and a token.
login_seconds=4
enable_jwt() {
  local program head body now
  program=$(go run ./internal/testvault/cmd/vaultbin -auth jwt)
  cp "$program" "$plugin_dir/jwt"
  vault plugin register -sha256="$(sha256sum "$plugin_dir/jwt" | cut -d' ' -f1)" -command=jwt auth jwt >/dev/null
  vault auth enable jwt >/dev/null
  openssl genrsa -out "$work/issuer.key" 2048 2>/dev/null
  openssl rsa -in "$work/issuer.key" -pubout -out "$work/issuer.pem" 2>/dev/null
  vault write auth/jwt/config jwt_validation_pubkeys=@"$work/issuer.pem" >/dev/null
  vault policy write payments - >/dev/null <<<'path "kms/+/payments/*" { capabilities = ["update"] }'
  vault write auth/jwt/role/payments role_type=jwt user_claim=sub bound_audiences=vault token_policies=payments \
    token_ttl="${login_seconds}s" token_max_ttl="${login_seconds}s" >/dev/null
  vault write kms/keys/payments/tokens key_spec=HMAC_256 >/dev/null
  head=$(printf '{"alg":"RS256"}' | base64url)
  now=$(date +%s)
  body=$(printf '{"sub":"clients","aud":"vault","iat":%d,"exp":%d}' "$now" "$((now + 3600))" | base64url)
  printf '%s.%s.%s' "$head" "$body" "$(printf '%s.%s' "$head" "$body" |
    openssl dgst -sha256 -sign "$work/issuer.key" | base64url)" >"$work/identity-token"
}

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

# login <command...>: runs the login checks of a client by STS and by container
# credentials. Their environment has an address and the file of a token; the
# AWS CLI keeps credentials in the home folder, and pyenv its programs.
login() {
  local way
  local -a given
  for way in STS container; do
    given=(AWS_ROLE_ARN=arn:aws:iam::000000000000:role/payments "AWS_WEB_IDENTITY_TOKEN_FILE=$work/identity-token")
    if [ "$way" = container ]; then
      given=("AWS_CONTAINER_CREDENTIALS_FULL_URI=$endpoint/credentials/payments" "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=$work/identity-token")
    fi
    env -u VAULT_TOKEN -u NOBODY_TOKEN -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY -u AWS_SESSION_TOKEN -u AWS_ENDPOINT_URL_KMS \
      "AWS_ENDPOINT_URL=$endpoint" "HOME=$work" "PYENV_ROOT=${PYENV_ROOT:-$HOME/.pyenv}" "LOGIN_BY=$way" "LOGIN_SECONDS=$((login_seconds + 2))" "${given[@]}" "$@" || return 1
  done
}

prepare
plugin_dir=$work/plugins
cp -r bin/plugins "$plugin_dir"
start_vault "$(free_port $((20000 + RANDOM % 5000)))"
enable_jwt
start_gateway "$(free_port $((25000 + RANDOM % 5000)))" -login jwt

# What an unmodified client needs: an address, a Region, and credentials whose
# session token is a Vault token.
export AWS_ENDPOINT_URL_KMS=$endpoint AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1
export AWS_ACCESS_KEY_ID=vault AWS_SECRET_ACCESS_KEY=vault AWS_SESSION_TOKEN=$VAULT_TOKEN
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true
export NO_PROXY=$host no_proxy=$host
# A token that may do nothing, for AccessDeniedException.
nobody=$(vault token create -policy=default -ttl=1h -field=token)
export NOBODY_TOKEN=$nobody CLIENTS_WORK=$work

client cli aws cli_checks
client boto3 python3 boto3_checks
client js npm js_checks
client r Rscript r_checks

[ "$ran" -gt 0 ] || die "none of these clients is installed: ${clients[*]}"
if [ "$failed" -ne 0 ]; then
  tail -n 20 "$work/gateway.log" >&2
  die "some checks failed"
fi
echo "all checks passed"
