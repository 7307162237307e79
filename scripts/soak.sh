#!/usr/bin/env bash
# Runs the short and the long forms of the tests, and writes the figures they print to acctest/soak.md.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
TIER=soak scripts/test.sh 2>&1 | tee build/soak.log
{
  printf '# Figures of the last make soak\n\n%s, %s, %s cores\n\n```\n' "$(date -u +%F)" "$(git describe --always --dirty)" "$(nproc)"
  grep -E 'figures:|^[a-z]+ +(ok|FAILED)|passed,' build/soak.log | sed 's/^.*figures:/figures:/'
  printf '```\n'
} >acctest/soak.md
