#!/usr/bin/env bash
# Runs every fuzz target of the tree for $FUZZ_SECONDS each (default 60).
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-60}
git grep -hoE '^func Fuzz[A-Za-z0-9]+' -- '*_test.go' >/dev/null || { echo "fuzz: no targets" >&2; exit 1; }
while IFS=: read -r file line; do
  target=${line#func }
  echo "fuzz: $target in $(dirname "$file")"
  go test "./$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "${seconds}s"
done < <(git grep -oE '^func Fuzz[A-Za-z0-9]+' -- '*_test.go')
