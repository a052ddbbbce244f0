package eksgateway.conditions_test

import data.tests.support

test_grant_with_via_allows_over_that_connection if {
	over := support.change(support.cancel_input, "/subject/properties/via", "spiffe://corp.example/mesh/ns/a")
	support.allowed_by(support.decide(over, data.fixtures.via), ["oncall"])
}

test_grant_with_via_denies_over_no_connection if {
	support.denied(support.decide(support.cancel_input, data.fixtures.via), ["oncall"], ["Grant oncall asks for a connection that this call did not come over."])
}

test_ticket_is_required_at_stage_request if {
	without := support.change(support.cancel_input, "/action/properties/ticket", "")
	support.denied(support.decide(without, data.fixtures.oncall), ["oncall"], ["A ticket is required by grant oncall."])
}

test_blank_ticket_does_not_count if {
	blank := support.change(support.cancel_input, "/action/properties", {"reason": " \t\n", "ticket": "  "})
	support.denied(support.decide(blank, data.fixtures.oncall), ["oncall"], ["A reason is required by grant oncall.", "A ticket is required by grant oncall."])
}

test_other_actions_require_no_ticket if {
	get_input := support.change(support.change(support.update_input, "/action/properties", {"reason": "", "ticket": ""}), "/action/name", "get")
	support.allowed_by(support.decide(get_input, data.fixtures.oncall), ["oncall"])
}

test_tag_denies_at_stage_update if {
	every tags in [{"environment": "lab"}, {}] {
		support.denied(
			support.decide(support.change(support.update_input, "/resource/properties/tags", tags), data.fixtures.oncall), ["oncall"],
			["Grant oncall asks for the cluster's tag environment to be production or staging."],
		)
	}
}

test_other_update_type_denies_without_naming_it if {
	support.denied(
		support.decide(support.change(support.update_input, "/resource/properties/update/type", "AddonUpdate"), data.fixtures.oncall), ["oncall"],
		["Grant oncall allows cancel for updates of type VersionRollback or VersionUpdate only."],
	)
}

test_update_types_apply_to_cancel_only if {
	get_input := support.change(support.change(support.update_input, "/resource/properties/update/type", "AddonUpdate"), "/action/name", "get")
	support.allowed_by(support.decide(get_input, data.fixtures.oncall), ["oncall"])
}

test_one_matching_grant_is_enough if support.allowed_by(support.decide(support.update_input, data.fixtures.strict_and_loose), ["loose"])

test_parts_of_two_grants_do_not_allow if {
	decision := support.decide(support.update_input, data.fixtures.no_whole)
	decision.allow == false
	decision.rules == ["no-tag", "no-type"]
}

test_grant_allows_from_begin_to_end if {
	every moment in ["2026-11-20T06:00:00Z", "2026-12-01T17:59:59Z"] {
		support.allowed_by(support.decide(support.at(support.cancel_input, moment), data.fixtures.brief_grant), ["oncall"])
	}
	early := support.decide(support.at(support.cancel_input, "2026-11-20T05:59:59Z"), data.fixtures.brief_grant)
	support.denied(early, ["oncall"], ["Grant oncall begins at 2026-11-20T06:00:00Z."])
	late := support.decide(support.at(support.cancel_input, "2026-12-01T18:00:00Z"), data.fixtures.brief_grant)
	support.denied(late, ["oncall"], ["Grant oncall ended at 2026-12-01T18:00:00Z."])
}

test_brief_grant_does_not_allow_at_an_unreadable_time if {
	get_input := support.change(support.change(support.cancel_input, "/action/name", "get"), "/context/time", "20261122")
	not support.decide(get_input, data.fixtures.brief_grant).allow
}

# Every night from 18:00 to 06:00 in Berlin, where it is 11:00.

test_grant_allows_within_its_windows if {
	support.denied(support.decide(support.november, data.fixtures.night_grant), ["oncall"], ["Grant oncall is outside its windows."])
	support.allowed_by(support.decide(support.at(support.cancel_input, "2026-11-22T17:00:00Z"), data.fixtures.night_grant), ["oncall"])
}

with_claims(claims) := support.change(support.cancel_input, "/subject/properties/claims", claims)

test_grant_with_claims_allows_if_all_match if {
	main := {"repository": ["corp/app"], "ref": ["refs/heads/main"]}
	support.allowed_by(support.decide(with_claims(main), data.fixtures.claims), ["oncall"])
	every claims in [{"repository": [], "ref": ["refs/heads/main"]}, {"ref": ["refs/heads/main"]}, {"repository": ["eve/app"], "ref": ["refs/heads/main"]}] {
		support.denied(
			support.decide(with_claims(claims), data.fixtures.claims), ["oncall"],
			["Grant oncall asks for the token's claim repository to be corp/app or corp/infra-*."],
		)
	}
}

with_ticket(ticket) := support.change(support.cancel_input, "/action/properties/ticket", ticket)

test_ticket_has_a_form if {
	every ticket in ["OPS-1", "INC-2026"] {
		support.allowed_by(support.decide(with_ticket(ticket), data.fixtures.tickets), ["oncall"])
	}
	every ticket in ["", "  ", "OPS-", "OPS-1a", "ops-1", "OPS-1 and more"] {
		support.denied(
			support.decide(with_ticket(ticket), data.fixtures.tickets), ["oncall"],
			["Grant oncall asks for a ticket like OPS-# or INC-#."],
		)
	}
	get_input := support.change(with_ticket(""), "/action/name", "get")
	support.allowed_by(support.decide(get_input, data.fixtures.tickets), ["oncall"])
}

test_tag_names_a_group if {
	support.allowed_by(support.decide(support.set_tags({"team": "platform"}), data.fixtures.group_tags), ["oncall"])
	every tags in [{}, {"team": ""}, {"team": "sales"}] {
		support.denied(
			support.decide(support.set_tags(tags), data.fixtures.group_tags), ["oncall"],
			["Grant oncall asks for the cluster's tag team to name one of your groups."],
		)
	}
}

test_version_matches if {
	support.allowed_by(support.decide(support.update_input, data.fixtures.versions), ["oncall"])
	other := support.change(support.update_input, "/resource/properties/version", "1.31")
	support.denied(
		support.decide(other, data.fixtures.versions), ["oncall"],
		["Grant oncall asks for the cluster's version to be 1.33 or 1.*4."],
	)
}

with_age(age) := support.change(support.update_input, "/resource/properties/update/age_s", age)

test_update_is_old_enough if {
	support.allowed_by(support.decide(with_age(7201), data.fixtures.old_updates), ["oncall"])
	every age in [null, 0, 7200] {
		support.denied(
			support.decide(with_age(age), data.fixtures.old_updates), ["oncall"],
			["Grant oncall asks for an update that is older than 2h."],
		)
	}
}

test_conditions_on_the_update_are_not_judged_at_stage_request if {
	every fixture in [data.fixtures.group_tags, data.fixtures.versions, data.fixtures.old_updates] {
		support.allowed_by(support.decide(support.cancel_input, fixture), ["oncall"])
	}
}
