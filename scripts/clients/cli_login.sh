#!/usr/bin/env bash
# Checks that the AWS CLI logs in by itself; scripts/clients.sh runs them. Its
# environment has no token.
set -uo pipefail

failed=0

# check <name> <got> <pattern>
check() {
  # shellcheck disable=SC2053 # the right side is a pattern
  if [[ $2 == $3 ]]; then
    echo "ok    cli: $1 by $LOGIN_BY"
  else
    echo "FAIL  cli: $1 by $LOGIN_BY: $2"
    failed=1
  fi
}

version=$(aws --version 2>&1)
version=${version#aws-cli/}
version=${version%% *}

# before <1.x> <2.x>: whether the version is before the one of its line.
before() {
  local limit=$1
  if [[ $version == 2.* ]]; then limit=$2; fi
  [ "$(printf '%s\n' "$version" "$limit" | sort -V | head -n 1)" != "$limit" ]
}

if before 1.29 2.13; then
  if [ "$LOGIN_BY" = STS ]; then
    echo "skip  cli: web identity, for which version $version asks no STS but Amazon's"
    exit 0
  fi
  echo "      cli: version $version does not know AWS_ENDPOINT_URL: it is told by --endpoint-url"
  aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }
fi
if before 1.30 2.15 && [ "$LOGIN_BY" = container ]; then
  echo "      cli: version $version reads the token from AWS_CONTAINER_AUTHORIZATION_TOKEN, and not from a file"
  AWS_CONTAINER_AUTHORIZATION_TOKEN=$(cat "$AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
  export AWS_CONTAINER_AUTHORIZATION_TOKEN
fi

cd "$CLIENTS_WORK" || exit 1
printf 'pay 10 EUR' >message
arn=$(aws sts get-caller-identity --output text --query Arn 2>&1)
check get-caller-identity "$arn" 'arn:aws:sts::000000000000:assumed-role/payments/*'
mac() { aws kms generate-mac --key-id payments/tokens --mac-algorithm HMAC_SHA_256 --message fileb://message --output text --query Mac 2>&1; }
first=$(mac)
check generate-mac "$first" '*='
end=$((SECONDS + LOGIN_SECONDS))
while [ "$SECONDS" -lt "$end" ]; do
  last=$(mac)
  [ "$last" = "$first" ] || break
done
check "generate-mac across a refresh" "${last:-none}" "$first"
check AccessDeniedException "$(aws kms list-keys 2>&1)" "*User: $arn is not authorized*"
exit "$failed"
