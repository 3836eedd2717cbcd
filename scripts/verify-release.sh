#!/usr/bin/env bash
# Checks files of a release: that SHA256SUMS was signed by an allowed signer,
# and that the files have those sums.
#
#   verify-release.sh DIR ALLOWED_SIGNERS SIGNER
set -euo pipefail

[ $# -eq 3 ] || { echo "usage: $0 DIR ALLOWED_SIGNERS SIGNER" >&2; exit 2; }
dir=$1 signers=$2 signer=$3

ssh-keygen -Y verify -f "$signers" -I "$signer" -n file -s "$dir/SHA256SUMS.sig" <"$dir/SHA256SUMS"
cd "$dir"
if command -v sha256sum >/dev/null; then
	sha256sum --check --ignore-missing SHA256SUMS
else
	shasum -a 256 --check --ignore-missing SHA256SUMS
fi
