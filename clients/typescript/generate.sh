#!/bin/sh
# Generates src/gen (`npm run generate`). The argument is the output folder. It needs buf, which the repository's .venv has.
set -eu
client=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$client/../.."
PATH=$PWD/.venv/bin:$PATH
plugin="{\"local\": \"$client/node_modules/.bin/protoc-gen-es\", \"out\": \"$out\", \"opt\": [\"target=ts\", \"import_extension=js\"]}"
for protos in protos third_party; do
  buf generate --template "{\"version\": \"v2\", \"plugins\": [$plugin]}" "$protos"
done
