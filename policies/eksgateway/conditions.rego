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
# description: All conditions hold. The action is not among them.
hold(name) if {
	has_begun(name)
	has_not_ended(name)
	is_within_windows(name)
	via_matches(name)
	claims_match(name)
	has_required(name)
	ticket_matches(name)
	fits_update(name)
}

has_begun(name) if data.eksgateway.index.conditions[name].from == null

has_begun(name) if {
	restrictions.utc
	input.context.time >= data.eksgateway.index.conditions[name].from
}

has_not_ended(name) if data.eksgateway.index.conditions[name].until == null

has_not_ended(name) if {
	restrictions.utc
	input.context.time < data.eksgateway.index.conditions[name].until
}

is_within_windows(name) if data.eksgateway.index.conditions[name].windows == null

is_within_windows(name) if {
	some window in data.eksgateway.index.conditions[name].windows
	windows.inside(window)
}

via_matches(name) if data.eksgateway.index.conditions[name].via == null

via_matches(name) if {
	some pattern in data.eksgateway.index.conditions[name].via
	patterns.matches(pattern, input.subject.properties.via)
}

claims_match(name) if {
	every claim, wanted in data.eksgateway.index.conditions[name].claims {
		claim_matches(claim, wanted)
	}
}

claim_matches(claim, wanted) if {
	some pattern in wanted
	some value in input.subject.properties.claims[claim]
	patterns.matches(pattern, value)
}

# What a cancel must carry does not depend on EKS, so it is checked at both stages.
has_required(_) if input.action.name != "cancel"

has_required(name) if {
	every text in data.eksgateway.index.conditions[name].require {
		is_given(text)
	}
}

is_given(text) if trim_space(input.action.properties[text]) != ""

ticket_matches(_) if input.action.name != "cancel"

ticket_matches(name) if data.eksgateway.index.conditions[name].ticket_patterns == null

ticket_matches(name) if {
	is_given("ticket")
	some pattern in data.eksgateway.index.conditions[name].ticket_patterns
	patterns.matches_ticket(pattern, input.action.properties.ticket)
}

fits_update(_) if input.context.stage in {"target", "request"}

fits_update(name) if {
	input.context.stage == "update"
	fits_type(name)
	fits_version(name)
	fits_age(name)
	every tag, values in data.eksgateway.index.conditions[name].tags {
		fits_tag(tag, values)
	}
	every tag, pattern in data.eksgateway.index.conditions[name].group_tags {
		names_group(tag, pattern)
	}
}

fits_tag(tag, values) if input.resource.properties.tags[tag] in values

# The tag's value, in place of the pattern's `*`, is one of the caller's groups.
names_group(tag, pattern) if {
	value := input.resource.properties.tags[tag]
	value != ""
	concat(value, split(pattern, "*")) in input.subject.properties.groups
}

fits_type(_) if input.action.name != "cancel"

fits_type(name) if input.resource.properties.update.type in data.eksgateway.index.conditions[name].update_types

fits_version(name) if data.eksgateway.index.conditions[name].versions == null

fits_version(name) if {
	some pattern in data.eksgateway.index.conditions[name].versions
	patterns.matches(pattern, input.resource.properties.version)
}

fits_age(name) if data.eksgateway.index.conditions[name].older_than == null

fits_age(name) if input.resource.properties.update.age_s > data.eksgateway.index.conditions[name].older_than.seconds
