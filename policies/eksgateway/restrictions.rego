# METADATA
# title: Denials and freezes
# description: |
#   The entries that forbid what grants allow. Each denial and freeze that was found must be shown not to apply,
#   so that one whose entry is lost applies.
# schemas:
#   - input: schema.input
package eksgateway.restrictions

import data.eksgateway.granting
import data.eksgateway.lookup

# METADATA
# description: The denials that are in force. An id that is of no grant counts as one.
denials := {id |
	some id in lookup.ids
	not granting.covering[id]
	not is_past_or_future(id)
}

# METADATA
# description: No denial applies, because there are grants only, or because none is in force.
undenied if count(lookup.ids) == count(granting.covering)

undenied if {
	every id in lookup.ids {
		is_no_denial(id)
	}
}

is_no_denial(id) if granting.covering[id]

is_no_denial(id) if is_past_or_future(id)

is_past_or_future(id) if {
	utc
	input.context.time < data.eksgateway.index.denials[id].from
}

is_past_or_future(id) if {
	utc
	input.context.time >= data.eksgateway.index.denials[id].until
}

# METADATA
# description: No freeze holds back the cancel.
unfrozen if {
	utc
	every id in lookup.freezes {
		is_clear(id)
	}
}

# METADATA
# description: The freezes that hold back the cancel.
freezes := {id |
	some id in lookup.freezes
	not is_clear(id)
}

is_clear(id) if input.context.time < data.eksgateway.index.freezes[id].from

is_clear(id) if input.context.time >= data.eksgateway.index.freezes[id].until

is_clear(id) if {
	some token in data.eksgateway.index.freezes[id].except_groups
	lookup.group_tokens[token]
}

is_clear(id) if {
	some token in data.eksgateway.index.freezes[id].except_subjects
	lookup.subject_tokens[token]
}

# Tags and type are known at stage update only.
is_clear(id) if {
	input.context.stage == "request"
	data.eksgateway.index.freezes[id].tags
}

is_clear(id) if {
	input.context.stage == "request"
	data.eksgateway.index.freezes[id].update_types
}

is_clear(id) if {
	some tag, values in data.eksgateway.index.freezes[id].tags
	value := object.get(input.resource.properties.tags, tag, null)
	not value in values
}

is_clear(id) if {
	types := data.eksgateway.index.freezes[id].update_types
	type := input.resource.properties.update.type
	not type in types
}

# METADATA
# description: "The time has the form `YYYY-MM-DDThh:mm:ssZ`. Times in this form compare as strings."
utc if strings.replace_n(digits, input.context.time) == "0000-00-00T00:00:00Z"

digits := {"1": "0", "2": "0", "3": "0", "4": "0", "5": "0", "6": "0", "7": "0", "8": "0", "9": "0"}
