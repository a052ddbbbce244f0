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
# description: |
#   At most 100 sentences, in order. Each list is made in order, because sorting hundreds of texts would
#   cost more than the decision.
reasons := [substring(reason, 0, 400) | some reason in array.slice(all, 0, 100)]

all := array.concat(array.concat(requirements, prohibitions), array.concat(faults, unread))

# METADATA
# description: The ids of the grants, denials and freezes that are explained.
rules := sort({id | some id in explained_grants} | ({id | some id in denials} | {id | some id in holding}))

# METADATA
# description: "`entries` are ids."
first_100(entries) := array.slice(sort(entries), 0, 100)

# If a grant allows, the conditions of other grants do not matter.
explained_grants := [] if count(granting.allowing) > 0

explained_grants := first_100(granting.naming_action) if {
	count(granting.allowing) == 0
	count(granting.action_conditions) > 0
}

explained_grants := first_100(object.keys(granting.covering)) if count(granting.action_conditions) == 0

denials := first_100(restrictions.denials)

default holding := []

holding := first_100(restrictions.freezes) if {
	cancel_granted
	restrictions.utc
}

holding := ["freezes"] if {
	cancel_granted
	not restrictions.utc
}

cancel_granted if {
	input.action.name == "cancel"
	count(granting.action_conditions) > 0
}

prohibitions := array.concat(
	[concat("", ["Denial ", id, " forbids this: ", denial_reason(id)]) | some id in denials],
	[concat("", ["Freeze ", id, " forbids cancel on this cluster ", end_of_freeze(id)]) |
		restrictions.utc
		some id in holding
	],
)

unread := ["The time cannot be read: no cancel is allowed." |
	not restrictions.utc
	cancel_granted
]

default denial_reason(_) := "its entry is missing."

denial_reason(id) := data.eksgateway.index.denials[id].reason

default end_of_freeze(_) := "now."

end_of_freeze(id) := concat("", ["until ", data.eksgateway.index.freezes[id].until, "."]) if {
	not data.eksgateway.index.freezes[id].windows
}

requirements := sort([concat("", ["A ", text, " is required by grant ", id, "."]) |
	some id in explained_grants
	some text in missing_texts[granting.covering[id]]
])

faults := [concat("", ["Grant ", id, fault]) |
	some id in explained_grants
	some fault in faults_of[granting.covering[id]]
]

# Conditions -> the texts that a cancel lacks.
missing_texts := {name: texts |
	input.action.name == "cancel"
	some name in granting.action_conditions
	texts := [text |
		some text in data.eksgateway.index.conditions[name].require
		not text in conditions.given_texts
	]
}

# Conditions -> what follows the id of a grant with these conditions.
faults_of := {name: faults_by(name) | some name in {granting.covering[id] | some id in explained_grants}}

faults_by(_) := [concat("", [" does not allow ", input.action.name, "."])] if {
	count(granting.action_conditions) == 0
}

faults_by(name) := sort(found) if {
	granting.action_conditions[name]
	wanted := data.eksgateway.index.conditions[name]
	early := array.concat(time_faults(wanted), caller_faults(wanted))
	found := array.concat(early, array.concat(ticket_faults(wanted), update_faults(wanted)))
}

time_faults(wanted) := array.concat(
	[concat("", [" begins at ", wanted.from, "."]) | not conditions.has_begun(wanted.from)],
	array.concat(
		[concat("", [" ended at ", wanted.until, "."]) | not conditions.has_not_ended(wanted.until)],
		[" is outside its windows." | not conditions.is_within(wanted.windows)],
	),
)

caller_faults(wanted) := array.concat(
	[" asks for a connection that this call did not come over." | not conditions.came_over(wanted.via)],
	[concat("", [" asks for the token's claim ", claim, " to be ", concat(" or ", values), "."]) |
		some claim, values in wanted.claims
		not conditions.has_claim(claim, values)
	],
)

ticket_faults(wanted) := [fault |
	not conditions.has_ticket(wanted.ticket_patterns)
	fault := concat("", [" asks for a ticket like ", concat(" or ", wanted.ticket_patterns), "."])
]

update_faults(_) := [] if input.context.stage != "update"

update_faults(wanted) := array.concat(
	array.concat(tag_faults(wanted), version_faults(wanted)),
	array.concat(age_faults(wanted), type_faults(wanted)),
) if {
	input.context.stage == "update"
}

tag_faults(wanted) := array.concat(
	[concat("", [" asks for the cluster's tag ", tag, " to be ", concat(" or ", values), "."]) |
		some tag, values in wanted.tags
		not conditions.fits_tag(tag, values)
	],
	[concat("", [" asks for the cluster's tag ", tag, " to name one of your groups."]) |
		some tag, pattern in wanted.group_tags
		not conditions.names_group(tag, pattern)
	],
)

version_faults(wanted) := [concat("", [" asks for the cluster's version to be ", concat(" or ", wanted.versions), "."]) |
	not conditions.fits_version(wanted.versions)
]

age_faults(wanted) := [concat("", [" asks for an update that is older than ", wanted.older_than.text, "."]) |
	not conditions.fits_age(wanted.older_than)
]

# The reason leaves out the update's own type, which the caller may not be allowed to see.
type_faults(wanted) := [concat("", [" allows cancel for updates of type ", concat(" or ", wanted.update_types), " only."]) |
	not conditions.fits_type(wanted.update_types)
]
