# METADATA
# title: The reasons of a denial
# description: |
#   They only explain; nothing here decides. Of more than 100 grants, denials or freezes, the first 100 by
#   id are explained.
# schemas:
#   - input: schema.input
package eksgateway.reasons

import data.eksgateway.conditions
import data.eksgateway.granting
import data.eksgateway.restrictions

# METADATA
# description: Each with the id of the grant, denial or freeze.
objections contains {"rule": id, "reason": reason} if {
	some id in first_100(restrictions.denials)
	reason := concat("", ["Denial ", id, " forbids this: ", denial_reason(id)])
}

default denial_reason(_) := "its entry is missing."

denial_reason(id) := data.eksgateway.index.denials[id].reason

objections contains {"rule": id, "reason": reason} if {
	count(granting.action_conditions) == 0
	some id in first_100(object.keys(granting.covering))
	reason := concat("", ["Grant ", id, " does not allow ", input.action.name, "."])
}

objections contains {"rule": "freezes", "reason": "The time cannot be read: no cancel is allowed."} if {
	cancel_granted
	not restrictions.utc
}

objections contains {"rule": id, "reason": reason} if {
	cancel_granted
	some id in first_100(restrictions.freezes)
	reason := concat("", ["Freeze ", id, " forbids cancel on this cluster ", end_of_freeze(id)])
}

cancel_granted if {
	input.action.name == "cancel"
	count(granting.action_conditions) > 0
}

default end_of_freeze(_) := "now."

end_of_freeze(id) := concat("", ["until ", data.eksgateway.index.freezes[id].until, "."]) if {
	not data.eksgateway.index.freezes[id].windows
}

# If a grant allows, the conditions of other grants do not matter.
objections contains {"rule": id, "reason": concat(id, around_id)} if {
	count(granting.allowing) == 0
	some id in first_100(granting.naming_action)
	some around_id in faults[granting.covering[id]]
}

# METADATA
# description: "`entries` are ids or reasons."
first_100(entries) := array.slice(sort(entries), 0, 100)

# Conditions -> the texts before and after the id of a grant with these conditions.
faults := {name: texts |
	some name in granting.action_conditions
	texts := time_faults(name) | (caller_faults(name) | (cancel_faults(name) | update_faults(name)))
}

time_faults(name) := ({["Grant ", after] |
	not conditions.has_begun(name)
	after := concat("", [" begins at ", data.eksgateway.index.conditions[name].from, "."])
} | {["Grant ", after] |
	not conditions.has_not_ended(name)
	after := concat("", [" ended at ", data.eksgateway.index.conditions[name].until, "."])
}) | {["Grant ", " is outside its windows."] |
	not conditions.is_within_windows(name)
}

caller_faults(name) := {["Grant ", " asks for a connection that this call did not come over."] |
	not conditions.via_matches(name)
} | {["Grant ", after] |
	some claim, wanted in data.eksgateway.index.conditions[name].claims
	not conditions.claim_matches(claim, wanted)
	after := concat("", [" asks for the token's claim ", claim, " to be ", concat(" or ", wanted), "."])
}

cancel_faults(name) := {[before, "."] |
	input.action.name == "cancel"
	some text in data.eksgateway.index.conditions[name].require
	not conditions.is_given(text)
	before := concat("", ["A ", text, " is required by grant "])
} | {["Grant ", after] |
	not conditions.ticket_matches(name)
	wanted := data.eksgateway.index.conditions[name].ticket_patterns
	after := concat("", [" asks for a ticket like ", concat(" or ", wanted), "."])
}

update_faults(_) := set() if input.context.stage != "update"

# The reason leaves out the update's own type, which the caller may not be allowed to see.
update_faults(name) := tag_faults(name) | ({["Grant ", after] |
	not conditions.fits_version(name)
	wanted := data.eksgateway.index.conditions[name].versions
	after := concat("", [" asks for the cluster's version to be ", concat(" or ", wanted), "."])
} | ({["Grant ", after] |
	not conditions.fits_age(name)
	after := concat("", [
		" asks for an update that is older than ",
		data.eksgateway.index.conditions[name].older_than.text, ".",
	])
} | {["Grant ", after] |
	not conditions.fits_type(name)
	types := data.eksgateway.index.conditions[name].update_types
	after := concat("", [" allows cancel for updates of type ", concat(" or ", types), " only."])
})) if {
	input.context.stage == "update"
}

tag_faults(name) := {["Grant ", after] |
	some tag, values in data.eksgateway.index.conditions[name].tags
	not conditions.fits_tag(tag, values)
	after := concat("", [" asks for the cluster's tag ", tag, " to be ", concat(" or ", values), "."])
} | {["Grant ", after] |
	some tag, pattern in data.eksgateway.index.conditions[name].group_tags
	not conditions.names_group(tag, pattern)
	after := concat("", [" asks for the cluster's tag ", tag, " to name one of your groups."])
}
