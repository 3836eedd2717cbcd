#!/usr/bin/env bash
# Fuzzes every target in short turns, one after the other and again, for so many
# seconds in all, and keeps what the fuzzer found worth keeping: inputs that
# reach something new go to testdata/fuzz, where every test run tries them.
#
#   fuzz.sh SECONDS [SECONDS OF A TURN] [WORKERS]
set -euo pipefail

total=${1:?usage: $0 SECONDS [SECONDS OF A TURN] [WORKERS]} turn=${2:-60} workers=${3:-$(getconf _NPROCESSORS_ONLN)}
keep_files=30    # per target
keep_bytes=2048  # per input: larger ones add little and bloat the repository

targets=$(grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed -E 's|^(.*)/[^/]*:func (.*)$|\1 \2|' | sort)
cache=$(go env GOCACHE)/fuzz
module=$(go list -m)

# keep copies the smallest inputs of a target that are not kept yet.
keep() {
	local package=$1 target=$2
	local from=$cache/$module/${package#./}/$target to=$package/testdata/fuzz/$target
	from=${from//\/.\//\/}
	[ -d "$from" ] || return 0
	mkdir -p "$to"
	local room=$((keep_files - $(find "$to" -type f | wc -l)))
	while read -r _ file; do
		[ "$room" -gt 0 ] || break
		[ -e "$to/${file##*/}" ] && continue
		cp "$file" "$to/"
		room=$((room - 1))
	done < <(find "$from" -type f -size -${keep_bytes}c -printf '%s %p\n' | sort -n)
}

output=$(mktemp)
trap 'rm -f "$output"' EXIT
end=$((SECONDS + total))
while [ $SECONDS -lt $end ]; do
	while read -r package target; do
		left=$((end - SECONDS))
		[ $left -gt 0 ] || break
		echo "== $package $target"
		# On a busy machine the fuzzer may report its own end as a failure.
		if ! go test -run '^$' -fuzz "^$target\$" -fuzztime "$((left < turn ? left : turn))s" -parallel "$workers" "$package" 2>&1 | tee "$output"; then
			! grep -q 'Failing input' "$output" && grep -q '^ *context deadline exceeded$' "$output" || exit 1
		fi
		keep "$package" "$target"
	done <<<"$targets"
done
