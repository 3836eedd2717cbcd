#!/usr/bin/env bash
# Draws docs/dashboard.svg: the dashboard of examples/monitoring with a minute's
# load of a real Vault, endpoint and Prometheus. Grafana is not needed for it.
set -euo pipefail
cd "$(dirname "$0")/.."
go test ./acceptance -count 1 -run '^TestMonitoring$' -args -dashboard "$PWD/docs/dashboard.svg"
