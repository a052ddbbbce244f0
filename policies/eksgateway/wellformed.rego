# METADATA
# title: Well-formed grants and freezes
# description: |
#   The gateway checks its policy data against policies/schemas/data.json before using it; an OPA
#   with a bundle of its own may not. A misspelt key would silently widen a grant or lift a freeze, so
#   an entry with an unknown key or a wrong type is malformed.
package eksgateway.wellformed

import data.eksgateway.schema

# METADATA
# description: Complete, with known keys and values only.
grant(entry) if {
	count(object.keys(entry) - schema.grant_keys) == 0
	id(entry.id)
	has_callers(entry)
	patterns(object.get(entry, "subjects", ["-"]))
	patterns(object.get(entry, "groups", ["-"]))
	patterns(entry.clusters)
	patterns(object.get(entry, "via", ["-"]))
	words(entry.accounts)
	words(entry.regions)
	subset(entry.actions, schema.actions)
	subset(object.get(entry, "require", ["reason"]), schema.requirements)
	tags(object.get(entry, "tags", {}))
	update_types(entry)
}

has_callers(entry) if entry.subjects

has_callers(entry) if entry.groups

# A grant of cancel lists its update types; there is no pattern for all of them.
update_types(entry) if words(entry.update_types)

update_types(entry) if {
	not "cancel" in entry.actions
	object.get(entry, "update_types", null) == null
}

# METADATA
# description: Complete, with known keys and values only, and ending after it begins.
freeze(entry) if {
	count(object.keys(entry) - schema.freeze_keys) == 0
	id(entry.id)
	patterns(entry.clusters)
	words(object.get(entry, "accounts", ["-"]))
	words(object.get(entry, "regions", ["-"]))
	patterns(object.get(entry, "except_groups", ["-"]))
	utc(entry.from)
	utc(entry.until)
	entry.from < entry.until
}

# METADATA
# description: "`YYYY-MM-DDThh:mm:ssZ`. Times in this form compare as strings."
utc(time) if strings.replace_n(digits, time) == "0000-00-00T00:00:00Z"

digits := {"1": "0", "2": "0", "3": "0", "4": "0", "5": "0", "6": "0", "7": "0", "8": "0", "9": "0"}

id(value) if {
	is_string(value)
	value != ""
}

words(list) if {
	is_array(list)
	count(list) > 0
	every word in list {
		id(word)
	}
}

patterns(list) if {
	words(list)
	every text in list {
		pattern(text)
	}
}

pattern(text) if count(split(text, "*")) <= 2

pattern(text) if {
	endswith(text, "/**")
	count(split(text, "*")) == 3
}

subset(list, known) if {
	words(list)
	every word in list {
		word in known
	}
}

tags(wanted) if {
	is_object(wanted)
	every values in wanted {
		words(values)
	}
}
