#!/usr/bin/env bash
# Measures registrations and calls of the local deployment beside Kamailio; arguments go to acctest/bench.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh
for tool in sipp; do PATH=$(dirname "$(scripts/need.sh "$tool")"):$PATH; done
if ! command -v kamailio >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends kamailio >/dev/null 2>&1 || true
fi
exec go run ./acctest/bench "$@"
