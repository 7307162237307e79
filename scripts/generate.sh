#!/usr/bin/env bash
# Generates what is generated: Go code of .proto files, formatted examples, provider documentation in docs/.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$(dirname "$(scripts/need.sh protoc)"):$PATH scripts/generate-proto.sh
terraform=$(scripts/find-terraform.sh)
TF_CLI_CONFIG_FILE=/dev/null "$terraform" fmt -recursive examples >/dev/null
mkdir -p build/docs bin
CGO_ENABLED=0 go build -trimpath -o bin/terraform-provider-clearwater ./provider
TF_CLI_CONFIG_FILE=$(scripts/install-provider.sh)
export TF_CLI_CONFIG_FILE
cat >build/docs/main.tf <<'CONFIG'
terraform {
  required_providers {
    clearwater = { source = "clearwater-ims/clearwater" }
  }
}
CONFIG
rm -rf build/docs/.terraform build/docs/.terraform.lock.hcl
"$terraform" -chdir=build/docs init -input=false -no-color >/dev/null
# tfplugindocs looks for the provider under one address only.
"$terraform" -chdir=build/docs providers schema -json |
  sed -E 's#"registry\.(terraform\.io|opentofu\.org)/clearwater-ims/clearwater"#"registry.terraform.io/hashicorp/clearwater"#' >build/docs/schema.json
go build -C scripts/tools/tfplugindocs -o "$PWD/build/tools/tfplugindocs" github.com/hashicorp/terraform-plugin-docs/cmd/tfplugindocs
build/tools/tfplugindocs generate --provider-dir . --provider-name clearwater --rendered-provider-name Clearwater \
  --providers-schema build/docs/schema.json --website-source-dir provider/templates --rendered-website-dir docs --examples-dir examples
echo "generated: protobuf code, examples, docs/"
