#!/usr/bin/env bash
# Pins every package with its hashes, for all platforms, and without index addresses.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$@"
}
compile --extra server --group build pyproject.toml -o requirements/runtime.lock
compile --extra postgres --group build -c requirements/runtime.lock pyproject.toml -o requirements/image.lock
compile --extra fleet-sandbox --group build -c requirements/image.lock pyproject.toml -o requirements/fleet.lock
compile --extra fleet-sandbox --group dev -c requirements/fleet.lock pyproject.toml -o requirements/dev.lock
