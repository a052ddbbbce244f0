#!/bin/sh
# Runs OPA on loopback, with the configuration beside this file.
set -eu
here=$(dirname "$0")
: "${BUNDLES_URL:?the address of the folder that has bundle.tar.gz}"
: "${POLICY_KEY:?the file of the public key that verifies it, in PEM}"
: "${OPA_STATE:?a folder that only OPA can write, for the last bundle}"
export BUNDLES_URL OPA_STATE
exec opa run --server --addr "${OPA_ADDR:-127.0.0.1:8181}" --authorization basic --skip-version-check \
  --config-file "$here/opa.yaml" --set-file "keys.policy-1.key=$POLICY_KEY" \
  "$here/authz.rego" "$here/log.rego"
