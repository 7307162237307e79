#!/usr/bin/env bash
# Runs terraform or tofu on a scenario ($SCENARIO, default local) for the environment $ENV, with a configuration of its own. State and the
# deployment's folder lie in .state/ of the work tree.
set -euo pipefail
cd "$(dirname "$0")/.."
env=${ENV:-local}
scenario=${SCENARIO:-local}
[[ $env =~ ^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$ ]] || { echo "ENV=$env: allowed is a DNS label of at most 32 lower-case letters, digits and inner hyphens" >&2; exit 1; }
[ -x bin/terraform-provider-clearwater ] || { echo "the provider is not built: run make build" >&2; exit 1; }
TF_CLI_CONFIG_FILE=$(scripts/install-provider.sh)
export TF_CLI_CONFIG_FILE TF_IN_AUTOMATION=1 CHECKPOINT_DISABLE=1
export TF_DATA_DIR=$PWD/.state/terraform/$env/data
export TF_VAR_name=$env TF_VAR_root=$PWD/.state/deployments TF_VAR_image=$PWD/bin/images.json
unset TF_WORKSPACE TF_CLI_ARGS
[ -t 1 ] || export TF_CLI_ARGS=-no-color
terraform=$(scripts/find-terraform.sh)
folder=.state/terraform/$env
mkdir -p "$folder"
# A copy of the scenario for each environment, so that the lock file and state of one are not those of another.
cp "examples/scenarios/$scenario/"*.tf "$folder/"
verb=${1:?"usage: terraform.sh <verb> [arguments]"}
shift
if [ "$verb" != init ]; then
  rm -f "$folder/.terraform.lock.hcl" # it would hold the digest of the provider's last build
  "$terraform" -chdir="$folder" init -input=false -no-color >"$folder/init.log" 2>&1 || { cat "$folder/init.log" >&2; exit 1; }
fi
case $verb in
  apply | destroy) exec "$terraform" -chdir="$folder" "$verb" -input=false -auto-approve "$@" ;;
  plan) exec "$terraform" -chdir="$folder" plan -input=false "$@" ;;
  *) exec "$terraform" -chdir="$folder" "$verb" "$@" ;;
esac
