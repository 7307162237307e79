#!/usr/bin/env bash
# Static checks that need no network: formatting, go vet, shell syntax, formatted examples.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(git ls-files -co --exclude-standard '*.go' | grep -v '\.pb\.go$' | xargs gofmt -l)
[ -z "$unformatted" ] || { printf 'lint: run gofmt -w on:\n%s\n' "$unformatted" >&2; exit 1; }
go vet ./...
for script in scripts/*.sh; do bash -n "$script"; done
TF_CLI_CONFIG_FILE=/dev/null "$(scripts/find-terraform.sh)" fmt -check -recursive examples
echo "lint: no findings"
