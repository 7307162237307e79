#!/usr/bin/env bash
# Static checks: formatting, golangci-lint with the architecture's rules, shell syntax, formatted examples.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(git ls-files -co --exclude-standard '*.go' | grep -v '\.pb\.go$' | xargs gofmt -l)
[ -z "$unformatted" ] || { printf 'lint: run gofmt -w on:\n%s\n' "$unformatted" >&2; exit 1; }
# golangci-lint runs vet too. It is built from its module, pinned in scripts/tools.
linter=build/tools/golangci-lint
[ -x "$linter" ] || { mkdir -p build/tools && nice -n 5 go build -C scripts/tools/golangci-lint -o "$PWD/$linter" github.com/golangci/golangci-lint/v2/cmd/golangci-lint; }
"$linter" run --allow-parallel-runners ./...
for script in scripts/*.sh; do bash -n "$script"; done
TF_CLI_CONFIG_FILE=/dev/null "$(scripts/find-terraform.sh)" fmt -check -recursive examples
echo "lint: no findings"
