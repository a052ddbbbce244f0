# OPA's API serves the gateway's queries and OPA's health and status. It neither writes nor reads data and policies.
package system.authz

default allow := false

allow if {
	input.method == "POST"
	input.path in queries
	object.keys(input.params) == {"provenance"}
}

allow if {
	input.method == "GET"
	input.path in [["health"], ["v1", "status"]]
}

queries := {
	["v1", "data", "eksgateway", "authz", "decision"],
	["v1", "data", "eksgateway", "revision", "hash"],
	["v1", "data", "eksgateway", "revision", "edges"],
	["v1", "data", "eksgateway", "revision", "fault"],
}
