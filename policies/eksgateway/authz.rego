# METADATA
# title: Authorization of EKS updates
# description: |
#   Decides one question of the gateway by the compiled policy (docs/policy-form.md). Stage "request"
#   has account, region and cluster. Stage "update" also has the tags and the update; it never allows
#   what stage "request" denies. Stage "target" has account and region: may the caller list any
#   clusters there? Every rule on the way to an allow is positive, so that undefined is a denial.
#
#   No rule binds a part of the index that grows with the policy: an OPA server converts what is bound,
#   at each decision. So functions take names, and references are whole.
# schemas:
#   - input: schema.input
package eksgateway.authz

# METADATA
# title: The decision
# description: |
#   `rules` are the ids of the grants that allow, or of the grants and freezes that deny.
#   `reasons` are sentences for the caller; a caller without a grant on the cluster gets the default
#   ones. The first 100 grants and freezes by id are explained, in at most 100 sentences of 400
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
	"reasons": [concat("", ["Grant ", id, " allows this."]) | some id in first_100(allowing_grants)],
	"rules": first_100(allowing_grants),
	"obligations": [],
} if {
	allowed
}

decision := {
	"allow": false,
	"reasons": first_100({substring(objection.reason, 0, 400) | some objection in objections}),
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

# The index is whole: it has this form, and each table that could open something by its absence has the
# index's revision.
whole if {
	alone
	data.eksgateway.index.form == "eksgateway-index/1"
	every table in marked {
		data.eksgateway.index[table][""] == data.eksgateway.index.revision
	}
}

# Data that is not compiled would be ignored, so it must not be there.
alone if {
	not data.eksgateway.grants
	not data.eksgateway.denials
	not data.eksgateway.freezes
	not data.eksgateway.sets
}

marked := {"scopes", "tables", "except_clusters", "few", "many", "is_many", "by_subject", "freezes", "freeze_at"}

# A grant covers the caller if it names the caller and the cluster.
covering_grants := {id |
	whole
	some id in named_ids
	data.eksgateway.index.grants[id]
}

named_ids := ids_by_group | ids_by_subject if input.context.stage != "target"

named_ids := {id |
	some token in group_tokens
	some scope in scopes
	some id in data.eksgateway.index.anywhere_by_group[token][scope]
} | {id |
	some token in subject_tokens
	some scope in scopes
	some id in data.eksgateway.index.anywhere_by_subject[token][scope]
} if {
	input.context.stage == "target"
	input.action.name == "list"
}

ids_by_group := {id |
	some place in places
	some token, ids in data.eksgateway.index.few[place]
	token in group_tokens
	some id in ids
} | {id |
	some place in crowded_places
	some token in group_tokens
	some id in data.eksgateway.index.many[place][token]
}

crowded_places := {place | some place in places; data.eksgateway.index.is_many[place]}

ids_by_subject := {id |
	some token in subject_tokens
	some place in places
	some id in data.eksgateway.index.by_subject[token][place]
}

# Tokens are the patterns of the policy that match the caller.
subject_tokens := names("subjects", [input.subject.id])

group_tokens := names("groups", input.subject.properties.groups)

# The scopes that have the account and region.
scopes := {scope |
	some account in [input.resource.properties.account_id, "*"]
	some region in [input.resource.properties.region, "*"]
	some scope in data.eksgateway.index.scopes[account][region]
}

# The places that have the cluster.
places := {place |
	some scope in scopes
	some place in names(scope, [input.resource.properties.cluster])
}

# The names that a table has for the patterns that match one of the values.
names(table, values) := union({
	exact_names(table, values),
	star_names(table, values),
	two_star_names(table, values),
	deep_names(table, values),
})

exact_names(table, values) := {name |
	some value in values
	some name in data.eksgateway.index.tables[table].exact[value]
}

# A head and a tail are looked up; what is between them, the star's text, has no `/`.
star_names(table, values) := {name |
	some before in data.eksgateway.index.tables[table].star.lengths
	some value in values
	before <= count(value)
	head := substring(value, 0, before)
	some after in data.eksgateway.index.tables[table].star.heads[head].lengths
	between := (count(value) - before) - after
	between >= 0
	some name in data.eksgateway.index.tables[table].star.heads[head].tails[substring(value, before + between, -1)]
	not contains(substring(value, before, between), "/")
}

two_star_names(table, values) := {name |
	some before in data.eksgateway.index.tables[table].two_stars.lengths
	some value in values
	before <= count(value)
	head := substring(value, 0, before)
	some after in data.eksgateway.index.tables[table].two_stars.heads[head].lengths
	between := (count(value) - before) - after
	between >= 0
	tail := substring(value, before + between, -1)
	some middle
	found := data.eksgateway.index.tables[table].two_stars.heads[head].tails[tail][middle]
	has_middle(substring(value, before, between), middle)
	some name in found
}

deep_names(table, values) := {name |
	some before in data.eksgateway.index.tables[table].deep.lengths
	some value in values
	before <= count(value)
	some name in data.eksgateway.index.tables[table].deep.heads[substring(value, 0, before)]
}

# Grants share their conditions, which are evaluated once.
covering_conditions := {name | some id in covering_grants; name := data.eksgateway.index.grants[id]}

action_conditions := {name |
	some name in covering_conditions
	input.action.name in data.eksgateway.index.conditions[name].actions
}

allowing_conditions := {name |
	some name in action_conditions
	via_matches(name)
	has_required(name)
	fits_update(name)
}

allowing_grants := {id |
	some id in covering_grants
	data.eksgateway.index.grants[id] in allowing_conditions
}

via_matches(name) if data.eksgateway.index.conditions[name].via == null

via_matches(name) if {
	some pattern in data.eksgateway.index.conditions[name].via
	matches(pattern, input.subject.properties.via)
}

# The required texts of a cancel do not depend on EKS, so they are checked at both stages.
has_required(_) if input.action.name != "cancel"

has_required(name) if {
	every text in data.eksgateway.index.conditions[name].require {
		is_given(text)
	}
}

is_given(text) if trim_space(input.action.properties[text]) != ""

fits_update(_) if input.context.stage in {"target", "request"}

fits_update(name) if {
	input.context.stage == "update"
	fits_type(name)
	every key, values in data.eksgateway.index.conditions[name].tags {
		fits_tag(key, values)
	}
}

fits_tag(key, values) if input.resource.properties.tags[key] in values

fits_type(_) if input.action.name != "cancel"

fits_type(name) if input.resource.properties.update.type in data.eksgateway.index.conditions[name].update_types

# A pattern is exact, or has one or two `*` (any characters but `/`), or ends in `/**` (all the rest).
matches(pattern, value) if pattern == value

matches(pattern, value) if {
	contains(pattern, "*")
	[head, tail] := split(pattern, "*")
	startswith(value, head)
	endswith(value, tail)
	count(value) >= count(head) + count(tail)
	not contains(trim_suffix(trim_prefix(value, head), tail), "/")
}

matches(pattern, value) if {
	[head, middle, tail] := split(pattern, "*")
	startswith(value, head)
	endswith(value, tail)
	count(value) >= count(head) + count(tail)
	has_middle(trim_suffix(trim_prefix(value, head), tail), middle)
}

# Two stars have the middle between them, and no `/` in their texts.
has_middle(text, middle) if {
	contains(text, middle)
	count(split(text, "/")) == count(split(middle, "/"))
}

matches(pattern, value) if {
	endswith(pattern, "/**")
	startswith(value, trim_suffix(pattern, "**"))
}

# Freezes apply to cancels only. Each one must be shown not to apply.
unfrozen if input.action.name != "cancel"

unfrozen if {
	utc
	every id in near_freezes {
		is_outside(id)
	}
}

# The freezes of the cluster in the year, month or day.
near_freezes := {id |
	some place in places
	some length in [4, 7, 10]
	some id in data.eksgateway.index.freeze_at[place][substring(input.context.time, 0, length)]
}

is_outside(id) if input.context.time < data.eksgateway.index.freezes[id].from

is_outside(id) if input.context.time >= data.eksgateway.index.freezes[id].until

is_outside(id) if {
	some token in data.eksgateway.index.freezes[id].except_groups
	token in group_tokens
}

# `YYYY-MM-DDThh:mm:ssZ`: times in this form compare as strings.
utc if strings.replace_n(digits, input.context.time) == "0000-00-00T00:00:00Z"

digits := {"1": "0", "2": "0", "3": "0", "4": "0", "5": "0", "6": "0", "7": "0", "8": "0", "9": "0"}

# The reasons of a denial. They only explain; nothing below decides.
objections contains {"rule": id, "reason": reason} if {
	count(action_conditions) == 0
	some id in first_100(covering_grants)
	reason := concat("", ["Grant ", id, " does not allow ", input.action.name, "."])
}

objections contains {"rule": id, "reason": reason} if {
	some id, name in failing_grants
	not via_matches(name)
	reason := concat("", ["Grant ", id, " asks for a connection that this call did not come over."])
}

objections contains {"rule": id, "reason": reason} if {
	input.action.name == "cancel"
	some id, name in failing_grants
	some text in data.eksgateway.index.conditions[name].require
	not is_given(text)
	reason := concat("", ["A ", text, " is required by grant ", id, "."])
}

objections contains {"rule": id, "reason": reason} if {
	input.context.stage == "update"
	some id, name in failing_grants
	some key, values in data.eksgateway.index.conditions[name].tags
	not fits_tag(key, values)
	reason := concat("", [
		"Grant ", id,
		" asks for the cluster's tag ", key,
		" to be ", concat(" or ", values), ".",
	])
}

# The reason leaves out the update's own type, which the caller may not be allowed to see.
objections contains {"rule": id, "reason": reason} if {
	input.context.stage == "update"
	some id, name in failing_grants
	not fits_type(name)
	reason := concat("", [
		"Grant ", id,
		" allows cancel for updates of type ", concat(" or ", data.eksgateway.index.conditions[name].update_types), " only.",
	])
}

objections contains {"rule": "freezes", "reason": "The time cannot be read: no cancel is allowed."} if {
	cancel_granted
	not utc
}

objections contains {"rule": id, "reason": reason} if {
	cancel_granted
	some id in first_100(denying_freezes)
	reason := concat("", [
		"Freeze ", id,
		" forbids cancel on this cluster until ", data.eksgateway.index.freezes[id].until, ".",
	])
}

# If a grant allows, the conditions of other grants do not matter.
failing_grants[id] := name if {
	count(allowing_grants) == 0
	some id in first_100(action_grants)
	name := data.eksgateway.index.grants[id]
}

action_grants := {id |
	some id in covering_grants
	data.eksgateway.index.grants[id] in action_conditions
}

first_100(entries) := array.slice(sort(entries), 0, 100)

# The freezes that deny this cancel.
denying_freezes := {id |
	some id in near_freezes
	not is_outside(id)
}

cancel_granted if {
	input.action.name == "cancel"
	count(action_conditions) > 0
}
