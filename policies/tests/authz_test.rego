package eksgateway.authz_test

import data.eksgateway.authz

# A caller of the platform group cancels, with everything required. fixtures.yaml has the policies.

properties := {"account_id": "111122223333", "region": "us-east-1", "cluster": "prod-1"}

update := {"id": "u-1", "type": "VersionRollback", "status": "InProgress", "created_at": null, "cancellation_status": null}

facts := {"tags": {"environment": "production"}, "cluster_status": "ACTIVE", "version": "1.34", "update": update}

cancel_input := {
	"subject": {
		"type": "jwt",
		"id": "jwt:corp:alice",
		"properties": {"issuer": "https://idp.corp.example", "groups": ["corp:platform"], "via": null},
	},
	"action": {"name": "cancel", "properties": {"reason": "bad AMI", "ticket": "OPS-12"}},
	"resource": {"type": "eks_cluster", "id": "111122223333/us-east-1/prod-1", "properties": properties},
	"context": {
		"stage": "request",
		"time": "2026-11-10T10:00:00Z",
		"method": "/eksgateway.v1.UpdateService/CancelUpdate",
		"decision_id": "d-1",
	},
}

update_input := object.union(cancel_input, {
	"resource": {"type": "eks_update", "id": "111122223333/us-east-1/prod-1/u-1", "properties": facts},
	"context": {"stage": "update"},
})

change(document, path, value) := json.patch(document, [{"op": "replace", "path": path, "value": value}])

decide(document, index) := decision if {
	decision := authz.decision with input as document with data.eksgateway.index as index
}

denied(decision, rules, reasons) if decision == {"allow": false, "reasons": reasons, "rules": rules, "obligations": []}

allowed_by(decision, rules) if {
	decision.allow == true
	decision.rules == rules
	decision.obligations == []
}

stranger(decision) if denied(decision, [], ["You have no grant on this cluster."])

# Callers, actions, clusters

test_group_is_allowed_at_stage_request if allowed_by(decide(cancel_input, data.fixtures.oncall), ["oncall"])

test_subject_is_allowed if allowed_by(decide(cancel_input, data.fixtures.subject), ["subject"])

test_group_that_matches_a_pattern_is_allowed if {
	allowed_by(decide(cancel_input, data.fixtures.group_star), ["oncall"])
	allowed_by(decide(cancel_input, data.fixtures.group_stars), ["oncall"])
	below := change(cancel_input, "/subject/properties/groups", ["corp:platform", "corp:a/b/c"])
	allowed_by(decide(below, data.fixtures.group_below), ["oncall"])
}

test_group_among_many_patterns_is_allowed if allowed_by(decide(cancel_input, data.fixtures.crowded), ["oncall"])

test_cluster_that_matches_two_stars_is_allowed if {
	allowed_by(decide(cancel_input, data.fixtures.cluster_stars), ["oncall"])
	stranger(decide(change(cancel_input, "/resource/properties/cluster", "pre-1"), data.fixtures.cluster_stars))
}

test_cluster_below_a_pattern_is_allowed if {
	allowed_by(decide(change(cancel_input, "/resource/properties/cluster", "prod/a/b"), data.fixtures.cluster_below), ["oncall"])
	stranger(decide(cancel_input, data.fixtures.cluster_below))
}

test_matching_update_is_allowed_at_stage_update if {
	decision := decide(update_input, data.fixtures.oncall)
	allowed_by(decision, ["oncall"])
	decision.reasons == ["Grant oncall allows this."]
}

test_all_matching_grants_allow_in_order if {
	allowed_by(decide(cancel_input, data.fixtures.two_grants), ["a-second", "oncall"])
}

test_stranger_gets_the_default_denial if {
	stranger(decide(cancel_input, data.fixtures.empty))
	stranger(decide(change(cancel_input, "/subject/properties/groups", ["corp:sales"]), data.fixtures.oncall))
}

test_grant_of_another_account_or_region_does_not_cover if {
	stranger(decide(cancel_input, data.fixtures.other_account))
	stranger(decide(cancel_input, data.fixtures.other_region))
}

test_stranger_does_not_learn_of_freezes if {
	stranger(decide(change(cancel_input, "/subject/properties/groups", ["corp:sales"]), data.fixtures.year_end))
}

test_empty_input_gets_the_default_denial if stranger(decide({}, data.fixtures.oncall))

test_action_without_a_grant_is_denied if {
	denied(decide(change(cancel_input, "/action/name", "watch"), data.fixtures.oncall), ["oncall"], ["Grant oncall does not allow watch."])
}

# Stage target: account and region, and no cluster.

target_input := json.patch(cancel_input, [
	{"op": "replace", "path": "/context/stage", "value": "target"},
	{"op": "replace", "path": "/action/name", "value": "list"},
	{"op": "remove", "path": "/resource/properties/cluster"},
])

stranger_there(decision) if denied(decision, [], ["You have no grant in this account and region."])

test_list_of_some_cluster_is_allowed_at_stage_target if {
	allowed_by(decide(target_input, data.fixtures.list), ["oncall"])
	allowed_by(decide(target_input, data.fixtures.subject), ["subject"])
}

test_caller_without_list_is_denied_at_stage_target if {
	denied(decide(target_input, data.fixtures.oncall), ["oncall"], ["Grant oncall does not allow list."])
}

test_other_actions_are_denied_at_stage_target if {
	stranger_there(decide(change(target_input, "/action/name", "get"), data.fixtures.oncall))
}

test_stranger_is_denied_at_stage_target if stranger_there(decide(target_input, data.fixtures.other_region))

test_grant_with_via_denies_at_stage_target_too if {
	denied(decide(target_input, data.fixtures.list_with_via), ["oncall"], ["Grant oncall asks for a connection that this call did not come over."])
}

test_unknown_stage_is_denied if not decide(change(cancel_input, "/context/stage", "later"), data.fixtures.oncall).allow

# Conditions

test_grant_with_via_allows_over_that_connection if {
	over := change(cancel_input, "/subject/properties/via", "spiffe://corp.example/mesh/ns/a")
	allowed_by(decide(over, data.fixtures.via), ["oncall"])
}

test_grant_with_via_denies_over_no_connection if {
	denied(decide(cancel_input, data.fixtures.via), ["oncall"], ["Grant oncall asks for a connection that this call did not come over."])
}

test_ticket_is_required_at_stage_request if {
	without := change(cancel_input, "/action/properties/ticket", "")
	denied(decide(without, data.fixtures.oncall), ["oncall"], ["A ticket is required by grant oncall."])
}

test_blank_ticket_does_not_count if {
	blank := change(cancel_input, "/action/properties", {"reason": " \t\n", "ticket": "  "})
	denied(decide(blank, data.fixtures.oncall), ["oncall"], ["A reason is required by grant oncall.", "A ticket is required by grant oncall."])
}

test_other_actions_require_no_ticket if {
	get_input := change(change(update_input, "/action/properties", {"reason": "", "ticket": ""}), "/action/name", "get")
	allowed_by(decide(get_input, data.fixtures.oncall), ["oncall"])
}

test_tag_denies_at_stage_update if {
	every tags in [{"environment": "lab"}, {}] {
		denied(
			decide(change(update_input, "/resource/properties/tags", tags), data.fixtures.oncall), ["oncall"],
			["Grant oncall asks for the cluster's tag environment to be production or staging."],
		)
	}
}

test_other_update_type_denies_without_naming_it if {
	denied(
		decide(change(update_input, "/resource/properties/update/type", "AddonUpdate"), data.fixtures.oncall), ["oncall"],
		["Grant oncall allows cancel for updates of type VersionRollback or VersionUpdate only."],
	)
}

test_update_types_apply_to_cancel_only if {
	get_input := change(change(update_input, "/resource/properties/update/type", "AddonUpdate"), "/action/name", "get")
	allowed_by(decide(get_input, data.fixtures.oncall), ["oncall"])
}

test_one_matching_grant_is_enough if allowed_by(decide(update_input, data.fixtures.strict_and_loose), ["loose"])

test_parts_of_two_grants_do_not_allow if {
	decision := decide(update_input, data.fixtures.no_whole)
	decision.allow == false
	decision.rules == ["no-tag", "no-type"]
}

# Patterns

matching := {
	["prod-1", "prod-1"], ["prod-*", "prod-"], ["prod-*", "prod-1"], ["*-1", "prod-1"], ["p*1", "prod-1"],
	["*", "prod-1"], ["p*d", "pd"], ["spiffe://a/**", "spiffe://a/b/c"], ["spiffe://a/*", "spiffe://a/b"],
	["spiffe://a/*/c", "spiffe://a/b/c"], ["é*", "éa"],
	["*-prod-*", "a-prod-1"], ["*-*", "-"], ["a*b*c", "abbc"], ["*/b/*", "a/b/c"], ["*b*", "ab"],
}

other := {
	["prod-1", "prod-10"], ["prod-*", "xprod-1"], ["*-1", "prod-10"], ["ab*ba", "aba"], ["p*d", "p/d"],
	["*", "a/b"], ["spiffe://a/**", "spiffe://a"], ["spiffe://a/**", "spiffe://ab/c"],
	["spiffe://a/*", "spiffe://a/b/c"], ["a**", "b"], ["prod-?", "prod-1"],
	["*-prod-*", "a-prod"], ["a*b*c", "ac"], ["a*b*c", "ab/c"], ["*/b/*", "x/a/b/c"], ["*a*", "b"], ["Prod-*", "prod-1"],
}

test_patterns_that_match if {
	every pair in matching {
		authz.matches(pair[0], pair[1])
	}
}

test_patterns_that_do_not_match if {
	every pair in other {
		not authz.matches(pair[0], pair[1])
	}
}

# Freezes

at(document, time) := change(document, "/context/time", time)

november := at(cancel_input, "2026-11-22T10:00:00Z")

test_freeze_denies_cancel_at_stage_request if {
	denied(
		decide(november, data.fixtures.year_end), ["year-end"],
		["Freeze year-end forbids cancel on this cluster until 2026-12-01T18:00:00Z."],
	)
}

test_freeze_and_missing_ticket_are_both_reasons if {
	decide(change(november, "/action/properties/ticket", ""), data.fixtures.year_end).rules == ["oncall", "year-end"]
}

test_freeze_does_not_deny_other_actions if {
	allowed_by(decide(change(november, "/action/name", "get"), data.fixtures.year_end), ["oncall"])
}

test_freeze_applies_from_begin_to_end if {
	every time in ["2026-11-20T06:00:00Z", "2026-12-01T17:59:59Z"] {
		not decide(at(cancel_input, time), data.fixtures.year_end).allow
	}
	every time in ["2026-11-20T05:59:59Z", "2026-12-01T18:00:00Z"] {
		decide(at(cancel_input, time), data.fixtures.year_end).allow
	}
}

test_freeze_does_not_apply_elsewhere if allowed_by(decide(november, data.fixtures.freeze_of_others), ["oncall"])

test_freeze_applies_in_its_accounts_and_regions if not decide(november, data.fixtures.freeze_here).allow

test_freeze_does_not_apply_to_except_groups if {
	below := change(november, "/subject/properties/groups", ["corp:platform", "corp:a/b/c"])
	allowed_by(decide(below, data.fixtures.freeze_with_exception), ["oncall"])
}

test_freeze_applies_to_other_groups if not decide(november, data.fixtures.freeze_with_exception).allow

test_one_of_several_freezes_denies if decide(november, data.fixtures.two_freezes).rules == ["year-end"]

test_unreadable_time_denies if {
	denied(decide(at(cancel_input, "2026-01-01"), data.fixtures.year_end), ["freezes"], ["The time cannot be read: no cancel is allowed."])
}

# An index that is not whole

test_index_without_a_part_denies if {
	every name, _ in data.fixtures.year_end {
		not decide(november, object.remove(data.fixtures.year_end, [name])).allow
	}
	every name in authz.marked {
		stranger(decide(cancel_input, object.remove(data.fixtures.oncall, [name])))
	}
}

test_index_with_a_part_of_another_denies if {
	every name in authz.marked {
		mixed := object.union(object.remove(data.fixtures.oncall, [name]), {name: data.fixtures.year_end[name]})
		stranger(decide(cancel_input, mixed))
	}
}

test_freeze_without_its_entry_denies if {
	lost := json.remove(data.fixtures.year_end, ["/freezes/year-end"])
	not decide(november, lost).allow
}

test_data_beside_the_index_denies if {
	stranger(authz.decision) with input as cancel_input
		with data.eksgateway.index as data.fixtures.oncall
		with data.eksgateway.freezes as []
	stranger(authz.decision) with input as cancel_input with data.eksgateway.grants as [{"id": "oncall"}]
}

# Bounds

many_ids := [concat("-", ["m", format_int(number, 10)]) | some number in numbers.range(1001, 1250)]

many_grants := json.patch(data.fixtures.oncall, [
	{"op": "replace", "path": "/grants", "value": {id: "c0" | some id in many_ids}},
	{"op": "replace", "path": "/few/p0", "value": {"corp:platform": many_ids}},
])

explained(decision) := [count(decision.rules), count(decision.reasons)]

test_at_most_a_hundred_grants_explain_an_allow if {
	decision := decide(cancel_input, many_grants)
	decision.allow
	explained(decision) == [100, 100]
}

test_at_most_a_hundred_grants_explain_a_denial if {
	every document in [change(cancel_input, "/action/name", "history"), change(cancel_input, "/action/properties/reason", "")] {
		decision := decide(document, many_grants)
		not decision.allow
		explained(decision) == [100, 100]
	}
}

test_a_reason_is_cut_off if {
	values := [concat("-", ["team", format_int(n, 10)]) | some n in numbers.range(1001, 1200)]
	index := json.patch(data.fixtures.oncall, [{"op": "add", "path": "/conditions/c0/tags", "value": {"team": values}}])
	denied(decide(update_input, index), ["oncall"], [substring(
		concat("", ["Grant oncall asks for the cluster's tag team to be ", concat(" or ", values)]),
		0, 400,
	)])
}

test_at_most_a_hundred_reasons_explain_a_denial if {
	tags := {key: ["x"] | some n in numbers.range(1001, 1200); key := format_int(n, 10)}
	index := json.patch(data.fixtures.oncall, [{"op": "add", "path": "/conditions/c0/tags", "value": tags}])
	explained(decide(update_input, index)) == [1, 100]
}

test_at_most_a_hundred_freezes_explain_a_denial if {
	index := json.patch(data.fixtures.year_end, [
		{"op": "add", "path": "/freezes", "value": object.union(
			{id: data.fixtures.year_end.freezes["year-end"] | some id in many_ids},
			{"": data.fixtures.year_end.revision},
		)},
		{"op": "add", "path": "/freeze_at/p1/2026-11-22", "value": many_ids},
	])
	decision := decide(november, index)
	not decision.allow
	explained(decision) == [100, 100]
}
