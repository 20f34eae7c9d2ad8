#!/bin/sh
# Generates the Go code and the OpenAPI document from the proto files. Needs only
# Go: buf and the plugins are built from the tools module at their pinned
# versions. With --check it changes nothing and fails when what is committed
# differs from what would be generated.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

check=
out=$root
case "${1:-}" in
--check) check=1 out=$work/out ;;
'') ;;
*) echo "usage: $0 [--check]" >&2 && exit 2 ;;
esac

mkdir -p "$work/bin" "$work/proto/google/api" "$out/docs/openapi"
for tool in github.com/bufbuild/buf/cmd/buf \
	google.golang.org/protobuf/cmd/protoc-gen-go \
	google.golang.org/grpc/cmd/protoc-gen-go-grpc \
	github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-grpc-gateway \
	github.com/grpc-ecosystem/grpc-gateway/v2/protoc-gen-openapiv2; do
	go -C "$root/tools" build -o "$work/bin/" "$tool"
done
PATH=$work/bin:$PATH
export PATH

# The annotations live beside our files in a scratch workspace and are not
# generated: their Go code is google.golang.org/genproto's.
cp -R "$root/proto/." "$work/proto/"
google=$(go -C "$root/tools" list -m -f '{{.Dir}}' github.com/gogo/googleapis)
cp "$google/google/api/annotations.proto" "$google/google/api/http.proto" "$work/proto/google/api/"

cd "$work/proto"
buf lint --path ark --path fulmine --path vigil
buf generate --template buf.gen.yaml --output "$out" --path ark --path fulmine --path vigil
buf generate --template buf.gen.openapi.yaml --output "$out" --path fulmine --path vigil

if [ -n "$check" ]; then
	for dir in internal/pb vigilpb docs/openapi; do
		diff -r "$root/$dir" "$out/$dir"
	done
fi
