#!/usr/bin/env bash
# Measures registrations and calls of the local deployment beside Kamailio, then the store's engines beside bare loops;
# arguments go to acctest/bench, or after "store" to the engines' program alone.
set -euo pipefail
cd "$(dirname "$0")/.."
store() {
  scripts/need.sh java >/dev/null
  scripts/cassandra.sh >/dev/null
  go run ./nodes/store/internal/engine/enginebench "$@"
}
if [ "${1:-}" = store ]; then shift; store "$@"; exit; fi
scripts/build.sh
for tool in sipp; do PATH=$(dirname "$(scripts/need.sh "$tool")"):$PATH; done
if ! command -v kamailio >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y --no-install-recommends kamailio >/dev/null 2>&1 || true
fi
go run ./acctest/bench "$@"
store
