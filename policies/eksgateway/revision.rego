# METADATA
# title: The revision of the policy data
# description: |
#   The gateway polls these rules of an OPA, to notice that decisions may have changed. They are not
#   part of the Wasm module. The hash does not cover the Rego: give bundles a revision.
package eksgateway.revision

# METADATA
# description: |
#   SHA-256 of the data, well-formed or not. It is the revision if OPA loads plain files, or a bundle
#   without a revision.
hash := crypto.sha256(json.marshal([grants, freezes]))

# METADATA
# description: The times at which freezes begin and end. Decisions change then under the same revision.
edges contains freeze[key] if {
	some freeze in freezes
	some key in ["from", "until"]
}

default grants := null

grants := data.eksgateway.grants

default freezes := null

freezes := data.eksgateway.freezes
