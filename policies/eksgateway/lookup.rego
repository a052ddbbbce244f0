# METADATA
# title: Lookups in the index
# description: |
#   Finds the grants, denials and freezes that can matter to the question, by their scopes, places and
#   callers (docs/policy-form.md).
#
#   No rule binds a part of the index that grows with the policy: an OPA server converts what is bound,
#   at each decision. So functions take names, and references are whole. Of large sets `set[x]` is used and
#   not `x in set`, which compares with each item in Wasm.
# schemas:
#   - input: schema.input
package eksgateway.lookup

import data.eksgateway.patterns
import data.eksgateway.windows

# METADATA
# description: |
#   The index has this form, and each table that could open something by its absence has the index's
#   revision.
whole if {
	alone
	data.eksgateway.index.form == "eksgateway-index/1"
	every table in marked {
		data.eksgateway.index[table][""] == data.eksgateway.index.revision
	}
}

# METADATA
# description: Data that is not compiled would be ignored, so it must not be there.
alone if {
	not data.eksgateway.grants
	not data.eksgateway.denials
	not data.eksgateway.freezes
	not data.eksgateway.sets
}

# METADATA
# description: The tables. One that is lost, or of another revision, could open something.
marked := {
	"grants", "conditions", "windows", "zones", "scopes", "tables", "except_clusters",
	"few", "many", "is_many", "by_subject", "anywhere_by_group", "anywhere_by_subject",
	"denials", "freezes", "freeze_at", "freeze_hours",
}

# METADATA
# description: The grants and denials that name the caller and the cluster, or at stage target the scope.
ids := ids_by_group | ids_by_subject if input.context.stage != "target"

ids := {id |
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
	some token
	found := data.eksgateway.index.few[place][token]
	group_tokens[token]
	some id in found
} | {id |
	some place in places
	data.eksgateway.index.is_many[place]
	some token in group_tokens
	some id in data.eksgateway.index.many[place][token]
}

ids_by_subject := {id |
	some token in subject_tokens
	some place in places
	some id in data.eksgateway.index.by_subject[token][place]
}

# METADATA
# description: |
#   The freezes of the cluster's places that may be in force at the time. Those with windows have one that the
#   time is not shown to be out of.
freezes := {id |
	some place in places
	some time in times
	some id in data.eksgateway.index.freeze_at[place][time]
}

# Freezes have dates (`21`, `2027`, `2027-03`, `2027-03-08`), windows (`w0`), or both (`2027-03 w0`).
times := (dates | freeze_windows) | {time |
	some date in dates
	some window in freeze_windows
	time := concat(" ", [date, window])
}

dates := {substring(input.context.time, 0, length) | some length in [2, 4, 7, 10]}

# The windows of the places' freezes that the time is not shown to be out of.
freeze_windows := {window |
	some window in hour_windows
	not windows.outside(window)
}

hour_windows := {window |
	some place in places
	some window in data.eksgateway.index.freeze_hours[place][windows.hour]
}

# METADATA
# description: Tokens are the patterns of the policy. These match the caller's groups.
group_tokens := names("groups", input.subject.properties.groups)

# METADATA
# description: These match the caller's id.
subject_tokens := names("subjects", [input.subject.id])

# The scopes that have the account and region.
scopes := {scope |
	some account in [input.resource.properties.account_id, "*"]
	some region in [input.resource.properties.region, "*"]
	some scope in data.eksgateway.index.scopes[account][region]
}

# The places that have the cluster.
places := {place |
	some place in named_places
	not is_excepted(place)
}

named_places := {place |
	some scope in scopes
	some place in names(scope, [input.resource.properties.cluster])
}

is_excepted(place) if {
	some pattern in data.eksgateway.index.except_clusters[place]
	patterns.matches(pattern, input.resource.properties.cluster)
}

# METADATA
# description: The exceptions of each place are known.
exceptions_known if {
	every place in named_places {
		is_array(data.eksgateway.index.except_clusters[place])
	}
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
	head := substring(value, 0, before)
	some after in data.eksgateway.index.tables[table].star.heads[head].lengths
	end := count(value) - after
	end >= before
	some name in data.eksgateway.index.tables[table].star.heads[head].tails[substring(value, end, -1)]
	not contains(substring(value, before, end - before), "/")
}

two_star_names(table, values) := {name |
	some before in data.eksgateway.index.tables[table].two_stars.lengths
	some value in values
	head := substring(value, 0, before)
	some after in data.eksgateway.index.tables[table].two_stars.heads[head].lengths
	end := count(value) - after
	end >= before
	tail := substring(value, end, -1)
	between := substring(value, before, end - before)
	some middle
	found := data.eksgateway.index.tables[table].two_stars.heads[head].tails[tail][middle]
	patterns.has_middle(between, middle)
	some name in found
}

deep_names(table, values) := {name |
	some before in data.eksgateway.index.tables[table].deep.lengths
	some value in values
	head := substring(value, 0, before)
	some name in data.eksgateway.index.tables[table].deep.heads[head]
	count(head) == before
}
