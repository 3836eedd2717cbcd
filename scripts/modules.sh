#!/usr/bin/env bash
# Lists the modules that are in the programs, with what is to be known of them
# where govulncheck has no database: the date of the version, the newest one and
# how many months it is younger, and what the authors deprecated or retracted.
# Ends with status 1 if one is older than the version that scripts/modules.txt
# asks for because of known vulnerabilities.
#
#   modules.sh [-offline] [TABLE]
#
# -offline asks no module proxy: nothing but the known vulnerabilities.
set -euo pipefail
cd "$(dirname "$0")/.."

offline=false
[ "${1:-}" != -offline ] || { offline=true; shift; }
table=${1:-scripts/modules.txt}
many_months=12

list() { # date, module, version, newest, its date, remarks
	local update=-u
	$offline && update=
	# shellcheck disable=SC2086 # an empty $update is no argument
	go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}' ./cmd/... | sort -u |
		xargs go list -m $update -f '{{if .Time}}{{.Time.Format "2006-01-02"}}{{else}}-{{end}} {{.Path}} {{.Version}}{{with .Update}} {{.Version}} {{if .Time}}{{.Time.Format "2006-01-02"}}{{else}}-{{end}}{{else}} - -{{end}}{{with .Deprecated}} DEPRECATED: {{.}}{{end}}{{with .Retracted}} RETRACTED: {{.}}{{end}}'
	echo "- go $(go env GOVERSION | sed 's/^go//') - -"
}

list | sort | awk -v many=$many_months '
	function months(date, part) { split(date, part, "-"); return part[1] * 12 + part[2] }
	FNR == NR { if ($1 != "" && $1 !~ /^#/) { need[$1] = $2; why[$1] = $0; sub(/^[^ ]+ +[^ ]+ +/, "", why[$1]) } next }
	{
		line = $1 " " $2 " " $3
		behind = $5 == "-" ? 0 : months($5) - months($1)
		if ($4 != "-") line = line " -> " $4 " (" behind " months younger)"
		if (behind > many) line = line " OLD"
		for (i = 6; i <= NF; i++) line = line " " $i
		seen[$2] = 1
		if ($2 in need) print line "\t" $3 "\t" need[$2] "\t" why[$2]; else print line
	}
	END { for (m in need) if (!(m in seen)) print "- " m " is not in the programs: take it out of the table" }
' "$table" - | {
	bad=0
	while IFS=$'\t' read -r line have need why; do
		if [ -n "$have" ] && [ "$(printf '%s\n' "$have" "$need" | sort -V | head -1)" != "$need" ]; then
			line="$line KNOWN VULNERABILITIES below $need: $why"
			bad=1
		fi
		echo "$line"
	done
	exit $bad
}
