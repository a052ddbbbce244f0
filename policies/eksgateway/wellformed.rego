# METADATA
# title: What a well-formed grant and freeze look like
# description: |
#   The gateway checks operators' data against policies/schemas/data.json before it is used; an
#   OPA with a bundle of its own may not. A key that is misspelt would silently widen a grant or
#   lift a freeze, so keys that are not known make an entry malformed, as do wrong types.
package eksgateway.wellformed

actions := {"cancel", "check", "get", "list", "watch", "history"}

grant_keys := {
	"id", "subjects", "groups", "actions", "accounts", "regions", "clusters",
	"via", "tags", "update_types", "require",
}

freeze_keys := {"id", "clusters", "accounts", "regions", "from", "until", "except_groups"}

# METADATA
# description: Complete, and nothing in it that is not understood.
grant(entry) if {
	count(object.keys(entry) - grant_keys) == 0
	id(entry.id)
	names_somebody(entry)
	patterns(object.get(entry, "subjects", ["-"]))
	patterns(object.get(entry, "groups", ["-"]))
	patterns(entry.clusters)
	patterns(object.get(entry, "via", ["-"]))
	words(entry.accounts)
	words(entry.regions)
	subset(entry.actions, actions)
	subset(object.get(entry, "require", ["reason"]), {"reason", "ticket"})
	tags(object.get(entry, "tags", {}))
	update_types(entry)
}

names_somebody(entry) if entry.subjects

names_somebody(entry) if entry.groups

# A cancel is granted for the update types that are written down, never for all of them.
update_types(entry) if words(entry.update_types)

update_types(entry) if {
	not "cancel" in entry.actions
	object.get(entry, "update_types", null) == null
}

# METADATA
# description: Complete, nothing in it that is not understood, and ending after it begins.
freeze(entry) if {
	count(object.keys(entry) - freeze_keys) == 0
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
# description: "`YYYY-MM-DDThh:mm:ssZ`, the one form in which times compare as strings."
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
