#!/usr/bin/env bash
# Runs every suite of acctest/suites.tsv in its short form, after making available what they need.
set -euo pipefail
cd "$(dirname "$0")/.."
tier=${TIER:-ci}
command -v go >/dev/null || { echo "test: go is missing; install Go $(awk '/^go /{print $2}' go.mod) or later from https://go.dev/dl" >&2; exit 1; }
for tool in sipp protoc dig named tshark chromium baresip python-diameter freeDiameterd; do
  path=$(scripts/need.sh "$tool")
  PATH=$(dirname "$path"):$PATH
done
export PATH
scripts/jssip.sh >/dev/null
scripts/need.sh java >/dev/null
scripts/cassandra.sh >/dev/null
scripts/build.sh
terraform=$(scripts/find-terraform.sh)
PATH=$PATH:$(dirname "$terraform")
echo "terraform: $("$terraform" version | head -n 1)"
exec go run ./acctest/run -tier "$tier" ${ONLY:+-only "$ONLY"}
