#!/usr/bin/env bash
# Runs the Connect conformance suite against the HTTP edge. The first run builds the suite with Go, from the Go
# module proxy, into the ignored folder .tools (about two minutes on two cores).
set -euo pipefail
cd "$(dirname "$0")/.."
VERSION=v1.0.7
CASES=290
tools=$PWD/.tools/conformance-$VERSION
export PATH="$PWD/.venv/bin:$PATH" GOTOOLCHAIN=local GOFLAGS=-mod=mod CGO_ENABLED=0

suite=$tools/connectconformance
[ -x "$suite" ] && [ -x "$tools/grpcserver" ] || {
  echo "Setting up (once): building the Connect conformance suite (about two minutes on two cores)"
  GOBIN=$tools go install "connectrpc.com/conformance/cmd/"{connectconformance,grpcserver}"@$VERSION"
}
protos=$(go env GOMODCACHE)/connectrpc.com/conformance@$VERSION/proto
[ -d "$protos" ] || (cd "$(mktemp -d)" && go mod download "connectrpc.com/conformance@$VERSION")
folder=tests/edge/conformance
report=$("$suite" --mode server --conf $folder/config.yaml -- \
  python $folder/edge_server.py "$protos" "$tools/grpcserver" 2>&1) || { echo "$report"; exit 1; }
# A suite that runs fewer cases does not know the features of the edge.
grep -qx "$CASES passed, 0 failed" <<<"$report" || { echo "$report"; exit 1; }
echo "Connect conformance: $CASES of $CASES cases"
