# METADATA
# title: What tells one state of the operators' data from another
# description: |
#   What the gateway asks an OPA again and again, to learn that decisions may differ from now on.
#   Not part of the Wasm module. A change to the Rego alone does not show here; give bundles a
#   revision.
package eksgateway.revision

# METADATA
# description: |
#   SHA-256 over the data, whatever its shape: the revision where OPA loads plain files, or a
#   bundle without one.
hash := crypto.sha256(json.marshal([grants, freezes]))

# METADATA
# description: When freezes begin and end. Decisions change then under the same revision.
edges contains freeze[key] if {
	some freeze in freezes
	some key in ["from", "until"]
}

default grants := null

grants := data.eksgateway.grants

default freezes := null

freezes := data.eksgateway.freezes
