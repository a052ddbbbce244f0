#!/bin/sh
# Generates eksgateway/v1 from the repository's protos, into the folder $1 (by default this one).
set -e
cd "$(dirname "$0")/../.."
out=${1:-clients/go}
export PATH="$PWD/.venv/bin:$PATH"
plugin() { printf '{"local":["go","run","%s"],"out":"%s","opt":"paths=source_relative"}' "$1" "$out"; }
buf generate protos --template "{\"version\":\"v2\",\"plugins\":[
  $(plugin google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12),
  $(plugin google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2)]}"
