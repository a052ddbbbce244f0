# METADATA
# title: The revision of the policy
# description: |
#   The gateway polls these rules of an OPA, to notice that decisions may have changed. They are not
#   part of the Wasm module. The hash does not cover the Rego: give bundles a revision.
package eksgateway.revision

# METADATA
# description: SHA-256 of the policy, made when it was compiled. It is the revision if no bundle has one.
hash := data.eksgateway.index.revision

# METADATA
# description: The times at which decisions change under the same revision.
edges := data.eksgateway.index.edges

# METADATA
# description: |
#   Why this policy denies everything. Undefined if the index is whole.
fault := "OPA has no compiled policy: load a bundle made by `eksgateway policy bundle`." if {
	not data.eksgateway.index.form
} else := "The compiled policy has another form: make the bundle with the `eksgateway` that made the Rego." if {
	data.eksgateway.index.form != "eksgateway-index/1"
} else := "OPA has policy data beside the compiled policy: load the bundle alone." if {
	not data.eksgateway.lookup.alone
} else := "Parts of the compiled policy are missing: load the bundle again." if {
	not data.eksgateway.lookup.whole
}
