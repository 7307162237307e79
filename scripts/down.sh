#!/usr/bin/env bash
# Destroys the local scenario of environment $ENV, and removes what Terraform kept of it.
set -euo pipefail
cd "$(dirname "$0")/.."
env=${ENV:-local}
if [ ! -d .state/terraform/"$env" ]; then
  echo "nothing to destroy: environment $env was never applied here"
  exit 0
fi
scripts/terraform.sh destroy "$@"
rm -rf ".state/terraform/$env" ".state/call/$env" ".state/$env.events" ".state/$env.apply.log"
rmdir .state/terraform .state/deployments .state/call .state 2>/dev/null || true
