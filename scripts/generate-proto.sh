#!/usr/bin/env bash
# Regenerates the Go code of every .proto file beside it.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v protoc >/dev/null || { echo "generate-proto: protoc is missing (Debian package protobuf-compiler)" >&2; exit 1; }
mkdir -p build/tools
go build -C scripts/tools/protoc-gen-go -o "$PWD/build/tools/protoc-gen-go" google.golang.org/protobuf/cmd/protoc-gen-go
git ls-files -co --exclude-standard '*.proto' | xargs protoc --plugin=protoc-gen-go=build/tools/protoc-gen-go --go_out=. --go_opt=module=github.com/clearwater-ims/clearwater
