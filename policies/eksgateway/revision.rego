# METADATA
# title: A hash of the operators' data
# description: |
#   For an OPA that loads plain files, or a bundle without a revision: the gateway asks for it, to
#   learn that grants or freezes have changed. A change to the Rego alone does not show here; give
#   bundles a revision. Not part of the Wasm module.
package eksgateway.revision

# METADATA
# description: SHA-256 over the data, whatever its shape.
hash := crypto.sha256(json.marshal([grants, freezes]))

default grants := null

grants := data.eksgateway.grants

default freezes := null

freezes := data.eksgateway.freezes
