# METADATA
# title: Authorization of EKS updates
# description: |
#   Decides one question of the gateway by the policy data (grants and freezes). Stage "request"
#   has account, region and cluster. Stage "update" also has the tags and the update; it never allows
#   what stage "request" denies. Stage "target" has account and region: may the caller list any
#   clusters there? Every rule on the way to an allow is positive, so that undefined is a denial.
# schemas:
#   - input: schema.input
package eksgateway.authz

import data.eksgateway.wellformed

# METADATA
# title: The decision
# description: |
#   `rules` are the ids of the grants that allow, or of the grants and freezes that deny.
#   `reasons` are sentences for the caller; a caller without a grant on the cluster gets the default
#   ones. The first 100 grants and freezes of the data are explained, in at most 100 sentences of 400
#   characters.
# entrypoint: true
default decision := {
	"allow": false,
	"reasons": ["You have no grant on this cluster."],
	"rules": [],
	"obligations": [],
}

decision := {
	"allow": true,
	"reasons": sort({concat("", ["Grant ", grant.id, " allows this."]) | some grant in first_100(allowing_grants)}),
	"rules": sort({grant.id | some grant in first_100(allowing_grants)}),
	"obligations": [],
} if {
	allowed
}

decision := {
	"allow": false,
	"reasons": first_100(sort({substring(objection.reason, 0, 400) | some objection in objections})),
	"rules": sort({objection.rule | some objection in objections}),
	"obligations": [],
} if {
	count(covering_grants) > 0
	not allowed
}

default allowed := false

allowed if {
	count(allowing_grants) > 0
	unfrozen
}

decision := {
	"allow": false,
	"reasons": ["You have no grant in this account and region."],
	"rules": [],
	"obligations": [],
} if {
	input.context.stage == "target"
	count(covering_grants) == 0
}

# Each step evaluates only the grants that the step before left, so the cheapest comes first.
cluster_grants := [grant |
	is_array(data.eksgateway.grants)
	some grant in data.eksgateway.grants
	names_cluster(grant)
]

# A grant covers the caller if it names the caller and the cluster, and is well-formed.
covering_grants := [grant |
	some grant in cluster_grants
	names_caller(grant)
	wellformed.grant(grant)
]

# Covering grants with the action.
action_grants := [grant |
	some grant in covering_grants
	input.action.name in grant.actions
]

# Grants with the action whose conditions hold.
allowing_grants := [grant |
	some grant in action_grants
	via_matches(grant)
	has_required(grant)
	fits_update(grant)
]

names_caller(grant) if {
	some pattern in grant.subjects
	matches(pattern, input.subject.id)
}

names_caller(grant) if {
	some pattern in grant.groups
	matching_group_patterns[pattern]
}

groups := {group | some group in input.subject.properties.groups}

# Patterns that match one of the caller's groups. Each distinct pattern with a `*` is matched once, for
# all grants and freezes: grants × groups would be too many. The loops use the input's list of groups,
# because iterating a set costs in proportion to the length of its texts.
matching_group_patterns := (groups | one_star_matches) | two_stars_matches

one_star_matches := {pattern |
	some pattern in group_globs
	[head, tail] := split(pattern, "*")
	some group in input.subject.properties.groups
	between(head, tail, group)
}

two_stars_matches := {pattern |
	some pattern in group_globs
	endswith(pattern, "/**")
	head := trim_suffix(pattern, "**")
	some group in input.subject.properties.groups
	startswith(group, head)
}

group_globs contains pattern if {
	some grant in cluster_grants
	some pattern in grant.groups
	contains(pattern, "*")
}

group_globs contains pattern if {
	input.action.name == "cancel"
	some freeze in freezes
	some pattern in freeze.except_groups
	contains(pattern, "*")
}

names_cluster(grant) if {
	names_target(grant)
	some pattern in grant.clusters
	matches(pattern, input.resource.properties.cluster)
}

names_cluster(grant) if {
	input.context.stage == "target"
	input.action.name == "list"
	names_target(grant)
}

names_target(grant) if {
	input.resource.properties.account_id in grant.accounts
	input.resource.properties.region in grant.regions
}

via_matches(grant) if object.get(grant, "via", null) == null

via_matches(grant) if {
	some pattern in grant.via
	matches(pattern, input.subject.properties.via)
}

# The required texts of a cancel do not depend on EKS, so they are checked at both stages.
has_required(_) if input.action.name != "cancel"

has_required(grant) if {
	every name in object.get(grant, "require", []) {
		is_given(name)
	}
}

is_given(name) if trim_space(input.action.properties[name]) != ""

fits_update(_) if input.context.stage in {"target", "request"}

fits_update(grant) if {
	input.context.stage == "update"
	fits_type(grant)
	every key, values in object.get(grant, "tags", {}) {
		fits_tag(key, values)
	}
}

fits_tag(key, values) if input.resource.properties.tags[key] in values

fits_type(_) if input.action.name != "cancel"

fits_type(grant) if input.resource.properties.update.type in grant.update_types

# A pattern is exact, or has one `*` (any characters but `/`), or ends in `/**` (all the rest).
matches(pattern, value) if pattern == value

matches(pattern, value) if {
	contains(pattern, "*")
	[head, tail] := split(pattern, "*")
	between(head, tail, value)
}

matches(pattern, value) if {
	endswith(pattern, "/**")
	startswith(value, trim_suffix(pattern, "**"))
}

between(head, tail, value) if {
	startswith(value, head)
	endswith(value, tail)
	count(value) >= count(head) + count(tail)
	not contains(trim_suffix(trim_prefix(value, head), tail), "/")
}

# Freezes apply to cancels only. Each one must be shown not to apply: a malformed freeze denies every
# cancel.
default freezes := []

freezes := data.eksgateway.freezes

unfrozen if input.action.name != "cancel"

unfrozen if {
	is_array(freezes)
	every freeze in freezes {
		exempts(freeze)
	}
}

exempts(freeze) if {
	wellformed.freeze(freeze)
	wellformed.utc(input.context.time)
	is_outside(freeze)
}

is_outside(freeze) if input.context.time < freeze.from

is_outside(freeze) if input.context.time >= freeze.until

is_outside(freeze) if {
	every pattern in freeze.clusters {
		not matches(pattern, input.resource.properties.cluster)
	}
}

is_outside(freeze) if {
	every account in freeze.accounts {
		account != input.resource.properties.account_id
	}
}

is_outside(freeze) if {
	every region in freeze.regions {
		region != input.resource.properties.region
	}
}

is_outside(freeze) if {
	some pattern in freeze.except_groups
	matching_group_patterns[pattern]
}

# The reasons of a denial. They only explain; nothing below decides.
objections contains {"rule": grant.id, "reason": reason} if {
	count(action_grants) == 0
	some grant in first_100(covering_grants)
	reason := concat("", ["Grant ", grant.id, " does not allow ", input.action.name, "."])
}

objections contains {"rule": grant.id, "reason": reason} if {
	some grant in failing_grants
	not via_matches(grant)
	reason := concat("", ["Grant ", grant.id, " asks for a connection that this call did not come over."])
}

objections contains {"rule": grant.id, "reason": reason} if {
	input.action.name == "cancel"
	some grant in failing_grants
	some name in grant.require
	not is_given(name)
	reason := concat("", ["A ", name, " is required by grant ", grant.id, "."])
}

objections contains {"rule": grant.id, "reason": reason} if {
	input.context.stage == "update"
	some grant in failing_grants
	some key, values in grant.tags
	not fits_tag(key, values)
	reason := concat("", [
		"Grant ", grant.id,
		" asks for the cluster's tag ", key,
		" to be ", concat(" or ", values), ".",
	])
}

# The reason leaves out the update's own type, which the caller may not be allowed to see.
objections contains {"rule": grant.id, "reason": reason} if {
	input.context.stage == "update"
	some grant in failing_grants
	not fits_type(grant)
	reason := concat("", [
		"Grant ", grant.id,
		" allows cancel for updates of type ", concat(" or ", grant.update_types), " only.",
	])
}

objections contains {"rule": "freezes", "reason": reason} if {
	cancel_granted
	not is_array(freezes)
	reason := "The freezes are malformed: no cancel is allowed until they are corrected."
}

objections contains {"rule": freeze_id(freeze), "reason": reason} if {
	cancel_granted
	some freeze in denying_freezes
	not wellformed.freeze(freeze)
	reason := concat("", [
		"Freeze ", freeze_id(freeze),
		" is malformed: no cancel is allowed until it is corrected.",
	])
}

objections contains {"rule": freeze.id, "reason": reason} if {
	cancel_granted
	some freeze in denying_freezes
	wellformed.freeze(freeze)
	reason := concat("", ["Freeze ", freeze.id, " forbids cancel on this cluster until ", freeze.until, "."])
}

# If a grant allows, the conditions of other grants do not matter.
failing_grants := [grant |
	count(allowing_grants) == 0
	some grant in first_100(action_grants)
]

# Sets and sorting of thousands of entries would cost more than the decision.
first_100(entries) := array.slice(entries, 0, 100)

# The freezes that deny this cancel, or are malformed.
denying_freezes := first_100([freeze |
	some freeze in freezes
	not exempts(freeze)
])

cancel_granted if {
	input.action.name == "cancel"
	count(action_grants) > 0
}

default freeze_id(_) := "freezes"

freeze_id(freeze) := freeze.id if wellformed.id(freeze.id)
