# Starts Vault with the engine, and the KMS endpoint, for the scripts beside
# this file, which source it. Whatever was started ends with the script.
# shellcheck shell=bash

plugin="vault-plugin-secrets-kms-hmac"
mount=kms
host=127.0.0.1

work=$(mktemp -d)
vault_pid=
gateway_pid=

# Ends what was started, the endpoint first, and waits until it is gone.
stop() {
  local pid
  for pid in $gateway_pid $vault_pid; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

die() {
  echo "$*" >&2
  exit 1
}

title() { printf '\n\n== %s\n' "$*"; }

running() { kill -0 "$1" 2>/dev/null; }

listening() { (: <"/dev/tcp/$host/$1") 2>/dev/null; }

# Prints the first port from $1 on that nobody listens on.
free_port() {
  local port=$1
  while listening "$port"; do port=$((port + 1)); done
  echo "$port"
}

# await <name> <pid> <log> <command...>: polls until the command succeeds; shows
# the log if the process ends before that, or if it takes 30 seconds.
await() {
  local name=$1 pid=$2 log=$3 tries=300
  shift 3
  until "$@" >/dev/null 2>&1; do
    tries=$((tries - 1))
    if ! running "$pid" || [ "$tries" -eq 0 ]; then
      cat "$log" >&2
      die "$name did not start"
    fi
    sleep 0.1
  done
  running "$pid" || die "$name did not start: its port was taken"
}

# Builds the programs, and finds or builds Vault, which it puts on PATH under its
# own name.
prepare() {
  make --no-print-directory build
  local vault
  vault=$(go run ./internal/testvault/cmd/vaultbin)
  mkdir "$work/bin"
  ln -s "$vault" "$work/bin/vault"
  PATH=$work/bin:$PATH
  # The caller's Vault has no part in this.
  unset "${!VAULT_@}"
}

# Starts a dev server on port $1 with the engine at kms/. It keeps everything in
# memory, and leaves ~/.vault-token alone. Its plugins are in $plugin_dir if that
# is set.
start_vault() {
  export VAULT_ADDR=http://$host:$1
  export VAULT_TOKEN=root
  vault server -dev -dev-no-store-token -dev-root-token-id="$VAULT_TOKEN" \
    -dev-listen-address="$host:$1" -dev-plugin-dir="${plugin_dir:-$PWD/bin/plugins}" >"$work/vault.log" 2>&1 &
  vault_pid=$!
  await Vault "$vault_pid" "$work/vault.log" vault status
  vault secrets enable -path="$mount" "$plugin" >/dev/null
}

# Starts the KMS endpoint on port $1, with any further flags, and sets endpoint
# to its URL. It gets no token: every caller brings one, or logs in.
start_gateway() {
  # shellcheck disable=SC2034 # the sourcing script reads it
  endpoint=http://$host:$1
  env -u VAULT_TOKEN bin/kms-gateway -listen "$host:$1" -mount "$mount" "${@:2}" >"$work/gateway.log" 2>&1 &
  gateway_pid=$!
  await "The KMS endpoint" "$gateway_pid" "$work/gateway.log" listening "$1"
}

# Starts the KMS for tests, which needs no Vault, on port $1, and sets endpoint
# to its URL.
start_dev() {
  # shellcheck disable=SC2034 # the sourcing script reads it
  endpoint=http://$host:$1
  bin/kms-gateway -dev -listen "$host:$1" >"$work/gateway.log" 2>&1 &
  gateway_pid=$!
  await "The KMS for tests" "$gateway_pid" "$work/gateway.log" listening "$1"
}
