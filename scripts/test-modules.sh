#!/usr/bin/env bash
# Runs terraform test on every module, and validates every scenario, with the provider as built.
set -euo pipefail
cd "$(dirname "$0")/.."
TF_CLI_CONFIG_FILE=$(scripts/install-provider.sh)
export TF_CLI_CONFIG_FILE CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1
terraform=$(scripts/find-terraform.sh)
"$terraform" fmt -check -recursive modules examples
for folder in modules/* examples/scenarios/*; do
  export TF_DATA_DIR=$PWD/build/test/terraform/$folder
  rm -rf "$TF_DATA_DIR" "$folder/.terraform.lock.hcl"
  mkdir -p "$TF_DATA_DIR"
  "$terraform" -chdir="$folder" init -backend=false -input=false -no-color >"$TF_DATA_DIR/init.log" 2>&1 || { cat "$TF_DATA_DIR/init.log" >&2; exit 1; }
  "$terraform" -chdir="$folder" validate -no-color
  [ ! -d "$folder/tests" ] || "$terraform" -chdir="$folder" test -no-color
  rm -f "$folder/.terraform.lock.hcl"
done
