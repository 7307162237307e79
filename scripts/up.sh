#!/usr/bin/env bash
# From a fresh clone to a call: builds, applies the local scenario of environment $ENV, follows what the provider does,
# prints the outputs, and makes a call with SIPp.
set -euo pipefail
cd "$(dirname "$0")/.."
env=${ENV:-local}
scripts/build.sh
scripts/need.sh sipp >/dev/null
began=$(date +%s.%N)
mkdir -p .state
events=$PWD/.state/$env.events
: >"$events"
export CLEARWATER_EVENTS=$events
tail -n +1 -F "$events" 2>/dev/null &
follower=$!
trap 'kill "$follower" 2>/dev/null || true; rm -f "$events"' EXIT
status=0
scripts/terraform.sh apply "$@" >.state/"$env".apply.log 2>&1 || status=$?
sleep 0.2 # the follower prints the last lines
if [ "$status" -ne 0 ]; then
  cat .state/"$env".apply.log >&2
  echo "make up: the apply failed; run it again to go on from where it stopped, or make down to end everything" >&2
  exit "$status"
fi
applied=$(date +%s.%N)
printf '\napplied in %.1f s\n\n' "$(echo "$applied $began" | awk '{print $1 - $2}')"
scripts/terraform.sh output
echo
# What the operator tool needs to enter the deployment.
access=.state/deployments/$env/operator
bin/cw access create --ca ".state/deployments/$env/secrets/ca" --zone "$(scripts/terraform.sh output -raw home_domain)" \
  --dns "$(scripts/terraform.sh output -raw name_server)" --out "$access" >/dev/null
echo "operator tool: bin/cw --deployment $access cluster state"
echo
scripts/call.sh
printf '\nfrom built binaries to a call: %.1f s\n' "$(echo "$(date +%s.%N) $began" | awk '{print $1 - $2}')"
