#!/bin/sh
# Runs an OPA for the gateways of this machine or pod, with the files beside this one and further options of OPA.
# docs/opa.md describes it.
set -eu
here=$(dirname "$0")
: "${BUNDLES_URL:?set it to the address of the folder that has bundle.tar.gz}"
: "${POLICY_KEY:?set it to the file of the public key that verifies the bundle, in PEM}"
: "${OPA_STATE:?set it to a folder for the last bundle, which only OPA can write}"
export BUNDLES_URL OPA_STATE
exec opa run --server --addr "${OPA_ADDR:-127.0.0.1:8181}" --authorization basic \
  --config-file "$here/opa.yaml" --set-file "keys.policy-1.key=$POLICY_KEY" \
  --log-level-request debug --skip-version-check \
  "$here/authz.rego" "$here/log.rego" "$@"
