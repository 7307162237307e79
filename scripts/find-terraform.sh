#!/usr/bin/env bash
# Prints the path of a usable terraform (>= 1.11) or tofu; builds OpenTofu from its Go module when there is none.
# $TERRAFORM overrides the choice.
set -euo pipefail
cd "$(dirname "$0")/.."
usable() { # path: is it new enough for write-only attributes?
  local found
  found=$(TF_CLI_CONFIG_FILE=/dev/null "$1" version 2>/dev/null | sed -n '1s/^[^0-9]*\([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
  [ -n "$found" ] && { [ "${found% *}" -gt 1 ] || [ "${found#* }" -ge 11 ]; }
}
if [ -n "${TERRAFORM:-}" ]; then
  path=$(command -v "$TERRAFORM") || { echo "find-terraform: TERRAFORM=$TERRAFORM is not there" >&2; exit 1; }
  usable "$path" || { echo "find-terraform: $path is older than 1.11" >&2; exit 1; }
  echo "$path"; exit
fi
for name in terraform tofu; do
  if path=$(command -v "$name") && usable "$path"; then echo "$path"; exit; fi
done
built=$PWD/build/tools/tofu
if [ ! -x "$built" ]; then
  echo "neither terraform nor tofu >= 1.11 is on PATH: building OpenTofu from its Go module (about 4 minutes on 2 cores)" >&2
  mkdir -p build/tools
  nice -n 5 go build -C scripts/tools/opentofu -o "$built" github.com/opentofu/opentofu/cmd/tofu >&2
fi
usable "$built" || { echo "find-terraform: $built does not run" >&2; exit 1; }
echo "$built"
