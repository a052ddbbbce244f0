package eksgateway.wellformed_test

import data.eksgateway.wellformed

viewer := {
	"id": "viewers",
	"groups": ["corp:engineering"],
	"actions": ["get", "list"],
	"accounts": ["111122223333"],
	"regions": ["us-east-1"],
	"clusters": ["*"],
}

full := object.union(viewer, {
	"subjects": ["spiffe://corp.example/platform/**"],
	"actions": ["cancel"],
	"via": ["spiffe://corp.example/mesh/*"],
	"tags": {"environment": ["production"]},
	"update_types": ["VersionRollback"],
	"require": ["reason", "ticket"],
})

freeze := {
	"id": "year-end",
	"clusters": ["prod-*"],
	"from": "2026-12-20T00:00:00Z",
	"until": "2027-01-03T00:00:00Z",
}

changed(entry, key, value) := object.union(object.remove(entry, [key]), {key: value})

test_grant_with_what_is_mandatory_is_well_formed if wellformed.grant(viewer)

test_grant_with_all_keys_is_well_formed if wellformed.grant(full)

test_grant_of_subjects_alone_is_well_formed if wellformed.grant(object.remove(full, ["groups"]))

test_grant_without_a_mandatory_key_is_malformed if {
	every key in ["id", "actions", "accounts", "regions", "clusters", "groups"] {
		not wellformed.grant(object.remove(viewer, [key]))
	}
}

test_grant_of_cancel_without_update_types_is_malformed if {
	not wellformed.grant(object.remove(full, ["update_types"]))
}

test_grant_with_update_types_of_another_type_is_malformed if {
	not wellformed.grant(changed(viewer, "update_types", "VersionRollback"))
}

test_grant_with_a_misspelt_key_is_malformed if {
	not wellformed.grant(changed(full, "requires", ["ticket"]))
}

test_grant_with_an_unknown_word_is_malformed if {
	not wellformed.grant(changed(viewer, "actions", ["get", "cancle"]))
	not wellformed.grant(changed(full, "require", ["tickets"]))
}

test_grant_with_wrong_types_is_malformed if {
	every key in ["id", "subjects", "groups", "actions", "accounts", "regions", "clusters", "via", "tags", "update_types", "require"] {
		every value in [5, "", null, [], [5], [""], {"a": "b"}] {
			not wellformed.grant(changed(full, key, value))
		}
	}
}

test_grant_that_is_no_object_is_malformed if {
	every entry in [5, "grant", null, [], true] {
		not wellformed.grant(entry)
	}
}

test_grant_with_a_pattern_of_two_stars_is_malformed if {
	every pattern in ["a*b*", "a**", "**a", "a/**/b", "a*/**"] {
		not wellformed.grant(changed(viewer, "clusters", [pattern]))
	}
}

test_freeze_is_well_formed if wellformed.freeze(freeze)

test_freeze_with_all_keys_is_well_formed if {
	wellformed.freeze(object.union(freeze, {
		"accounts": ["111122223333"], "regions": ["us-east-1"], "except_groups": ["corp:*"],
	}))
}

test_freeze_that_ends_before_it_begins_is_malformed if {
	not wellformed.freeze(changed(freeze, "until", "2026-12-20T00:00:00Z"))
}

test_freeze_with_a_misspelt_key_is_malformed if {
	not wellformed.freeze(changed(freeze, "except_group", ["corp:*"]))
}

test_freeze_with_wrong_types_is_malformed if {
	every key in ["id", "clusters", "accounts", "regions", "from", "until", "except_groups"] {
		every value in [5, "", null, [], [5], {}] {
			not wellformed.freeze(changed(freeze, key, value))
		}
	}
}

test_times_have_one_form if {
	every time in ["2026-12-20", "2026-12-20T00:00:00+00:00", "2026-12-20t00:00:00z", "2026-12-20T00:00:00.0Z", "x"] {
		not wellformed.utc(time)
	}
	wellformed.utc("2026-12-20T12:34:56Z")
}
