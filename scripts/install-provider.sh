#!/usr/bin/env bash
# Puts the built provider into a filesystem mirror inside the work tree, under the host names of both registries, and
# writes a CLI configuration file that names it. The user's own configuration is not touched. Prints that file's path.
set -euo pipefail
cd "$(dirname "$0")/.."
built=${1:-bin/terraform-provider-clearwater}
mirror=$PWD/build/terraform/mirror
version=0.1.0
platform=$(go env GOOS)_$(go env GOARCH)
for host in registry.terraform.io registry.opentofu.org; do
  folder=$mirror/$host/clearwater-ims/clearwater/$version/$platform
  mkdir -p "$folder"
  target=$folder/terraform-provider-clearwater_v$version
  cmp -s "$built" "$target" || { cp "$built" "$target.$$" && mv "$target.$$" "$target"; }
done
cat >build/terraform/cli.tfrc.$$ <<CONFIG
provider_installation {
  filesystem_mirror {
    path    = "$mirror"
    include = ["clearwater-ims/clearwater", "registry.opentofu.org/clearwater-ims/clearwater", "registry.terraform.io/clearwater-ims/clearwater"]
  }
  direct {
    exclude = ["clearwater-ims/clearwater", "registry.opentofu.org/clearwater-ims/clearwater", "registry.terraform.io/clearwater-ims/clearwater"]
  }
}
disable_checkpoint = true
CONFIG
mv build/terraform/cli.tfrc.$$ build/terraform/cli.tfrc
echo "$PWD/build/terraform/cli.tfrc"
