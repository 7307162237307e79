#!/usr/bin/env bash
# Fails if make generate would change anything that is committed or leave a file that is not.
set -euo pipefail
cd "$(dirname "$0")/.."
before=$(git status --porcelain -- docs examples '*.pb.go')
sums=$(git ls-files -co --exclude-standard -- docs examples '*.pb.go' | xargs sha256sum)
scripts/generate.sh
after=$(git status --porcelain -- docs examples '*.pb.go')
if [ "$before" != "$after" ] || [ "$sums" != "$(git ls-files -co --exclude-standard -- docs examples '*.pb.go' | xargs sha256sum)" ]; then
  git --no-pager diff --stat -- docs examples '*.pb.go' >&2
  printf 'check-generated: generated files differ; run make generate and commit\n%s\n' "$after" >&2
  exit 1
fi
echo "check-generated: nothing differs"
