# METADATA
# title: Who may do what to which EKS update
# description: |
#   Answers one question of the gateway from the operators' data (grants and freezes). Stage
#   "request" knows account, region and cluster; stage "update" also tags and the update, and
#   never allows what stage "request" would not. Stage "target" knows account and region, and asks
#   whether the caller may list any cluster there, whichever there are. Only what is written down is
#   allowed: every rule on the way to an allow is positive, so that anything undefined is a deny.
# schemas:
#   - input: schema.input
package eksgateway.authz

import data.eksgateway.wellformed

# METADATA
# title: The decision
# description: |
#   `rules` are the ids of the grants that allow, or of the grants and freezes that deny;
#   `reasons` are sentences for the caller. Who has no grant on the cluster learns nothing else.
#   The first 100 grants and freezes in the data are explained, in at most 100 sentences of 400
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
	"reasons": sort({concat("", ["Grant ", grant.id, " allows this."]) | some grant in some_of(allowing)}),
	"rules": sort({grant.id | some grant in some_of(allowing)}),
	"obligations": [],
} if {
	allowed
}

decision := {
	"allow": false,
	"reasons": some_of(sort({substring(objection.reason, 0, 400) | some objection in objections})),
	"rules": sort({objection.rule | some objection in objections}),
	"obligations": [],
} if {
	count(covering) > 0
	not allowed
}

default allowed := false

allowed if {
	count(allowing) > 0
	unfrozen
}

decision := {
	"allow": false,
	"reasons": ["You have no grant in this account and region."],
	"rules": [],
	"obligations": [],
} if {
	input.context.stage == "target"
	count(covering) == 0
}

# Cheap and selective first: this runs for each grant, and each step costs for those that are left.
here := [grant |
	is_array(data.eksgateway.grants)
	some grant in data.eksgateway.grants
	names_cluster(grant)
]

# Grants that name both the caller and the cluster. A malformed grant covers nobody.
covering := [grant |
	some grant in here
	names_caller(grant)
	wellformed.grant(grant)
]

# … and the action, …
naming_action := [grant |
	some grant in covering
	input.action.name in grant.actions
]

# … and whose conditions hold.
allowing := [grant |
	some grant in naming_action
	comes_over(grant)
	has_required(grant)
	fits_update(grant)
]

names_caller(grant) if {
	some pattern in grant.subjects
	matches(pattern, input.subject.id)
}

names_caller(grant) if {
	some pattern in grant.groups
	fitting[pattern]
}

groups := {group | some group in input.subject.properties.groups}

# Patterns that match one of the caller's groups. Each distinct pattern with a `*` is tried once,
# however many grants and freezes have it: grants × groups would be too many to try. The groups are
# those of the input, a list, because to go on in a set costs in proportion to a text's length.
fitting := (groups | one_star) | two_stars

one_star := {pattern |
	some pattern in globs
	[head, tail] := split(pattern, "*")
	some group in input.subject.properties.groups
	between(head, tail, group)
}

two_stars := {pattern |
	some pattern in globs
	endswith(pattern, "/**")
	head := trim_suffix(pattern, "**")
	some group in input.subject.properties.groups
	startswith(group, head)
}

globs contains pattern if {
	some grant in here
	some pattern in grant.groups
	contains(pattern, "*")
}

globs contains pattern if {
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

comes_over(grant) if object.get(grant, "via", null) == null

comes_over(grant) if {
	some pattern in grant.via
	matches(pattern, input.subject.properties.via)
}

# What a cancel must bring is known before any call to EKS, so it is judged at both stages.
has_required(_) if input.action.name != "cancel"

has_required(grant) if {
	every name in object.get(grant, "require", []) {
		given(name)
	}
}

given(name) if trim_space(input.action.properties[name]) != ""

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

# A pattern is exact; or has one `*`, any run of characters but `/`; or ends in `/**`, the rest.
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

# Freezes hold back cancels and nothing else. `clear` has to be shown for each of them: a freeze
# that cannot be read holds everything back.
default freezes := []

freezes := data.eksgateway.freezes

unfrozen if input.action.name != "cancel"

unfrozen if {
	is_array(freezes)
	every freeze in freezes {
		clear(freeze)
	}
}

clear(freeze) if {
	wellformed.freeze(freeze)
	wellformed.utc(input.context.time)
	spares(freeze)
}

spares(freeze) if input.context.time < freeze.from

spares(freeze) if input.context.time >= freeze.until

spares(freeze) if {
	every pattern in freeze.clusters {
		not matches(pattern, input.resource.properties.cluster)
	}
}

spares(freeze) if {
	every account in freeze.accounts {
		account != input.resource.properties.account_id
	}
}

spares(freeze) if {
	every region in freeze.regions {
		region != input.resource.properties.region
	}
}

spares(freeze) if {
	some pattern in freeze.except_groups
	fitting[pattern]
}

# Why not. These only explain: nothing here decides.
objections contains {"rule": grant.id, "reason": reason} if {
	count(naming_action) == 0
	some grant in some_of(covering)
	reason := concat("", ["Grant ", grant.id, " does not allow ", input.action.name, "."])
}

objections contains {"rule": grant.id, "reason": reason} if {
	some grant in failing
	not comes_over(grant)
	reason := concat("", ["Grant ", grant.id, " asks for a connection that this call did not come over."])
}

objections contains {"rule": grant.id, "reason": reason} if {
	input.action.name == "cancel"
	some grant in failing
	some name in grant.require
	not given(name)
	reason := concat("", ["A ", name, " is required by grant ", grant.id, "."])
}

objections contains {"rule": grant.id, "reason": reason} if {
	input.context.stage == "update"
	some grant in failing
	some key, values in grant.tags
	not fits_tag(key, values)
	reason := concat("", [
		"Grant ", grant.id,
		" asks for the cluster's tag ", key,
		" to be ", concat(" or ", values), ".",
	])
}

# The update's own type is not told: the caller may not be allowed to see it.
objections contains {"rule": grant.id, "reason": reason} if {
	input.context.stage == "update"
	some grant in failing
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
	some freeze in holding
	not wellformed.freeze(freeze)
	reason := concat("", [
		"Freeze ", freeze_id(freeze),
		" is malformed: no cancel is allowed until it is corrected.",
	])
}

objections contains {"rule": freeze.id, "reason": reason} if {
	cancel_granted
	some freeze in holding
	wellformed.freeze(freeze)
	reason := concat("", ["Freeze ", freeze.id, " forbids cancel on this cluster until ", freeze.until, "."])
}

# One grant that allows is enough: what others lack is not worth telling then.
failing := [grant |
	count(allowing) == 0
	some grant in some_of(naming_action)
]

# Sets and sorting of thousands would cost more than the decision itself.
some_of(entries) := array.slice(entries, 0, 100)

# The freezes that hold this cancel back, or cannot be read.
holding := some_of([freeze |
	some freeze in freezes
	not clear(freeze)
])

cancel_granted if {
	input.action.name == "cancel"
	count(naming_action) > 0
}

default freeze_id(_) := "freezes"

freeze_id(freeze) := freeze.id if wellformed.id(freeze.id)
