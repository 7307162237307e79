#!/usr/bin/env bash
# Makes JsSIP available, the phone of the browser test, as pinned by acctest/browser/jssip/package-lock.json, and prints the
# folder that holds it and what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=build/tools/jssip
if ! cmp -s acctest/browser/jssip/package-lock.json "$folder/installed"; then
  npm=$(scripts/need.sh npm)
  rm -rf "$folder"
  mkdir -p "$folder"
  cp acctest/browser/jssip/package.json acctest/browser/jssip/package-lock.json "$folder/"
  (cd "$folder" && "$npm" ci --ignore-scripts --no-audit --no-fund >log 2>&1) || { echo "jssip: npm ci failed: $(tail -n 3 "$folder/log")" >&2; exit 1; }
  cp "$folder/package-lock.json" "$folder/installed"
fi
echo "$PWD/$folder/node_modules"
