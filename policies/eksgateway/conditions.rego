# METADATA
# title: The conditions of grants
# description: |
#   Grants share their conditions, which have names in the index. All conditions of a name are there, null
#   if the policy has none, so that a lost one does not hold.
# schemas:
#   - input: schema.input
package eksgateway.conditions

import data.eksgateway.patterns
import data.eksgateway.restrictions
import data.eksgateway.windows

# METADATA
# description: All conditions of this name hold. The action is not among them.
hold(name) if {
	wanted := data.eksgateway.index.conditions[name]
	has_begun(wanted.from)
	has_not_ended(wanted.until)
	is_within(wanted.windows)
	came_over(wanted.via)
	has_claims(wanted.claims)
	has_texts(wanted.require)
	has_ticket(wanted.ticket_patterns)
	fits_update(wanted)
}

has_begun(from) if from == null

has_begun(from) if {
	from != null
	restrictions.utc
	input.context.time >= from
}

has_not_ended(until) if until == null

has_not_ended(until) if {
	until != null
	restrictions.utc
	input.context.time < until
}

is_within(names) if names == null

is_within(names) if {
	some name in names
	windows.inside(name)
}

came_over(via) if via == null

came_over(via) if {
	some pattern in via
	patterns.matches(pattern, input.subject.properties.via)
}

has_claims(claims) if {
	every claim, wanted in claims {
		has_claim(claim, wanted)
	}
}

has_claim(claim, wanted) if {
	some pattern in wanted
	some value in input.subject.properties.claims[claim]
	patterns.matches(pattern, value)
}

# The texts of a cancel do not depend on EKS, so they are checked at both stages.
has_texts(_) if input.action.name != "cancel"

has_texts(names) if {
	every name in names {
		name in given_texts
	}
}

given_texts contains name if {
	some name, text in input.action.properties
	trim_space(text) != ""
}

has_ticket(_) if input.action.name != "cancel"

has_ticket(wanted) if wanted == null

has_ticket(wanted) if {
	some pattern in wanted
	"ticket" in given_texts
	patterns.matches_ticket(pattern, input.action.properties.ticket)
}

fits_update(_) if input.context.stage in {"target", "request"}

fits_update(wanted) if {
	input.context.stage == "update"
	fits_type(wanted.update_types)
	fits_version(wanted.versions)
	fits_age(wanted.older_than)
	every tag, values in wanted.tags {
		fits_tag(tag, values)
	}
	every tag, pattern in wanted.group_tags {
		names_group(tag, pattern)
	}
}

fits_type(_) if input.action.name != "cancel"

fits_type(types) if input.resource.properties.update.type in types

fits_version(versions) if versions == null

fits_version(versions) if {
	some pattern in versions
	patterns.matches(pattern, input.resource.properties.version)
}

fits_age(age) if age == null

fits_age(age) if input.resource.properties.update.age_s > age.seconds

fits_tag(tag, values) if input.resource.properties.tags[tag] in values

# The tag's value, in place of the pattern's `*`, is one of the caller's groups.
names_group(tag, pattern) if {
	value := input.resource.properties.tags[tag]
	value != ""
	groups[concat(value, split(pattern, "*"))]
}

groups := {group | some group in input.subject.properties.groups}
