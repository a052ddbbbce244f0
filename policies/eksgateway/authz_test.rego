package eksgateway.authz_test

import data.eksgateway.authz

# Common to most tests: a caller of the platform group cancels, with everything required.

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
		"time": "2026-11-22T10:00:00Z",
		"method": "/eksgateway.v1.UpdateService/CancelUpdate",
		"decision_id": "d-1",
	},
}

update_input := object.union(cancel_input, {
	"resource": {"type": "eks_update", "id": "111122223333/us-east-1/prod-1/u-1", "properties": facts},
	"context": {"stage": "update"},
})

oncall := {
	"id": "oncall",
	"groups": ["corp:platform"],
	"actions": ["cancel", "get"],
	"accounts": ["111122223333"],
	"regions": ["us-east-1"],
	"clusters": ["prod-*"],
	"tags": {"environment": ["production", "staging"]},
	"update_types": ["VersionRollback", "VersionUpdate"],
	"require": ["reason", "ticket"],
}

year_end := {
	"id": "year-end",
	"clusters": ["prod-*"],
	"from": "2026-11-20T00:00:00Z",
	"until": "2026-12-01T00:00:00Z",
}

with_key(entry, key, value) := object.union(object.remove(entry, [key]), {key: value})

change(document, path, value) := json.patch(document, [{"op": "replace", "path": path, "value": value}])

stranger_denial := {
	"allow": false,
	"reasons": ["You have no grant on this cluster."],
	"rules": [],
	"obligations": [],
}

denied(decision, rules, reasons) if {
	decision == {"allow": false, "reasons": reasons, "rules": rules, "obligations": []}
}

allowed_by(decision, rules) if {
	decision.allow == true
	decision.rules == rules
	decision.obligations == []
}

# Callers, actions, clusters

test_group_is_allowed_at_stage_request if {
	allowed_by(authz.decision, ["oncall"]) with input as cancel_input
		with data.eksgateway.grants as [oncall]
}

test_subject_is_allowed if {
	grant := with_key(object.remove(oncall, ["groups"]), "subjects", ["jwt:corp:alice"])
	allowed_by(authz.decision, ["oncall"]) with input as cancel_input
		with data.eksgateway.grants as [grant]
}

test_matching_update_is_allowed_at_stage_update if {
	decision := authz.decision with input as update_input with data.eksgateway.grants as [oncall]
	allowed_by(decision, ["oncall"])
	decision.reasons == ["Grant oncall allows this."]
}

test_all_matching_grants_allow_in_order if {
	second := with_key(oncall, "id", "a-second")
	allowed_by(authz.decision, ["a-second", "oncall"]) with input as cancel_input
		with data.eksgateway.grants as [oncall, second]
}

test_stranger_gets_the_default_denial_without_grants if {
	authz.decision == stranger_denial with input as cancel_input
}

test_stranger_gets_the_default_denial_with_grants_of_others if {
	authz.decision == stranger_denial with input as change(cancel_input, "/subject/properties/groups", ["corp:sales"])
		with data.eksgateway.grants as [oncall]
}

test_grant_of_another_account_does_not_cover if {
	authz.decision == stranger_denial with input as change(cancel_input, "/resource/properties/account_id", "444455556666")
		with data.eksgateway.grants as [oncall]
}

test_grant_of_another_region_does_not_cover if {
	authz.decision == stranger_denial with input as change(cancel_input, "/resource/properties/region", "eu-central-1")
		with data.eksgateway.grants as [oncall]
}

test_stranger_does_not_learn_of_freezes if {
	authz.decision == stranger_denial with input as cancel_input with data.eksgateway.freezes as [year_end]
}

test_malformed_grant_covers_no_caller if {
	authz.decision == stranger_denial with input as cancel_input
		with data.eksgateway.grants as [with_key(oncall, "requires", ["ticket"])]
}

test_grants_that_are_not_a_list_cover_no_caller if {
	authz.decision == stranger_denial with input as cancel_input with data.eksgateway.grants as {"oncall": oncall}
}

test_empty_input_gets_the_default_denial if {
	authz.decision == stranger_denial with input as {} with data.eksgateway.grants as [oncall]
}

test_action_without_a_grant_is_denied if {
	decision := authz.decision with input as change(cancel_input, "/action/name", "watch")
		with data.eksgateway.grants as [oncall]
	denied(decision, ["oncall"], ["Grant oncall does not allow watch."])
}

# Stage target: account and region, and no cluster.

target_input := json.patch(cancel_input, [
	{"op": "replace", "path": "/context/stage", "value": "target"},
	{"op": "replace", "path": "/action/name", "value": "list"},
	{"op": "remove", "path": "/resource/properties/cluster"},
])

test_list_of_some_cluster_is_allowed_at_stage_target if {
	grant := with_key(oncall, "actions", ["list"])
	allowed_by(authz.decision, ["oncall"]) with input as target_input
		with data.eksgateway.grants as [grant]
}

test_caller_without_list_is_denied_at_stage_target if {
	decision := authz.decision with input as target_input
		with data.eksgateway.grants as [oncall]
	denied(decision, ["oncall"], ["Grant oncall does not allow list."])
}

test_other_actions_are_denied_at_stage_target if {
	decision := authz.decision with input as change(target_input, "/action/name", "get")
		with data.eksgateway.grants as [oncall]
	denied(decision, [], ["You have no grant in this account and region."])
}

test_stranger_is_denied_at_stage_target if {
	grant := with_key(oncall, "regions", ["eu-central-1"])
	decision := authz.decision with input as target_input
		with data.eksgateway.grants as [grant]
	denied(decision, [], ["You have no grant in this account and region."])
}

test_grant_with_via_denies_at_stage_target_too if {
	grant := object.union(oncall, {"actions": ["list"], "via": ["spiffe://corp.example/mesh/**"]})
	decision := authz.decision with input as target_input
		with data.eksgateway.grants as [grant]
	denied(decision, ["oncall"], ["Grant oncall asks for a connection that this call did not come over."])
}

test_unknown_stage_is_denied if {
	not authz.allowed with input as change(cancel_input, "/context/stage", "later")
		with data.eksgateway.grants as [oncall]
}

# Conditions

test_grant_with_via_allows_over_that_connection if {
	grant := with_key(oncall, "via", ["spiffe://corp.example/mesh/**"])
	allowed_by(authz.decision, ["oncall"]) with data.eksgateway.grants as [grant]
		with input as change(cancel_input, "/subject/properties/via", "spiffe://corp.example/mesh/ns/a")
}

test_grant_with_via_denies_over_no_connection if {
	grant := with_key(oncall, "via", ["spiffe://corp.example/mesh/**"])
	decision := authz.decision with input as cancel_input with data.eksgateway.grants as [grant]
	denied(decision, ["oncall"], ["Grant oncall asks for a connection that this call did not come over."])
}

test_ticket_is_required_at_stage_request if {
	decision := authz.decision with input as change(cancel_input, "/action/properties/ticket", "")
		with data.eksgateway.grants as [oncall]
	denied(decision, ["oncall"], ["A ticket is required by grant oncall."])
}

test_blank_ticket_does_not_count if {
	input_blank := change(cancel_input, "/action/properties", {"reason": " \t\n", "ticket": "  "})
	decision := authz.decision with input as input_blank with data.eksgateway.grants as [oncall]
	denied(decision, ["oncall"], ["A reason is required by grant oncall.", "A ticket is required by grant oncall."])
}

test_other_actions_require_no_ticket if {
	get_input := change(change(update_input, "/action/properties", {"reason": "", "ticket": ""}), "/action/name", "get")
	allowed_by(authz.decision, ["oncall"]) with input as get_input with data.eksgateway.grants as [oncall]
}

test_tag_of_another_value_denies_at_stage_update if {
	decision := authz.decision with input as change(update_input, "/resource/properties/tags", {"environment": "lab"})
		with data.eksgateway.grants as [oncall]
	denied(decision, ["oncall"], ["Grant oncall asks for the cluster's tag environment to be production or staging."])
}

test_missing_tag_denies_at_stage_update if {
	decision := authz.decision with input as change(update_input, "/resource/properties/tags", {})
		with data.eksgateway.grants as [oncall]
	denied(decision, ["oncall"], ["Grant oncall asks for the cluster's tag environment to be production or staging."])
}

test_other_update_type_denies_without_naming_it if {
	decision := authz.decision with input as change(update_input, "/resource/properties/update/type", "AddonUpdate")
		with data.eksgateway.grants as [oncall]
	denied(decision, ["oncall"], ["Grant oncall allows cancel for updates of type VersionRollback or VersionUpdate only."])
}

test_update_types_apply_to_cancel_only if {
	get_input := change(change(update_input, "/resource/properties/update/type", "AddonUpdate"), "/action/name", "get")
	allowed_by(authz.decision, ["oncall"]) with input as get_input with data.eksgateway.grants as [oncall]
}

test_one_matching_grant_is_enough if {
	strict := with_key(oncall, "update_types", ["VersionUpdate"])
	decision := authz.decision with input as update_input with data.eksgateway.grants as [strict, with_key(oncall, "id", "loose")]
	allowed_by(decision, ["loose"])
}

test_parts_of_two_grants_do_not_allow if {
	no_type := object.union(oncall, {"id": "no-type", "update_types": ["VersionUpdate"]})
	no_tag := object.union(oncall, {"id": "no-tag", "tags": {"environment": ["staging"]}})
	decision := authz.decision with input as update_input with data.eksgateway.grants as [no_type, no_tag]
	decision.allow == false
	decision.rules == ["no-tag", "no-type"]
}

# Patterns

matching := {
	["prod-1", "prod-1"], ["prod-*", "prod-"], ["prod-*", "prod-1"], ["*-1", "prod-1"], ["p*1", "prod-1"],
	["*", "prod-1"], ["p*d", "pd"], ["spiffe://a/**", "spiffe://a/b/c"], ["spiffe://a/*", "spiffe://a/b"],
	["spiffe://a/*/c", "spiffe://a/b/c"], ["é*", "éa"],
}

other := {
	["prod-1", "prod-10"], ["prod-*", "xprod-1"], ["*-1", "prod-10"], ["ab*ba", "aba"], ["p*d", "p/d"],
	["*", "a/b"], ["spiffe://a/**", "spiffe://a"], ["spiffe://a/**", "spiffe://ab/c"],
	["spiffe://a/*", "spiffe://a/b/c"], ["a*b*c", "abc"], ["a**", "ab"], ["prod-?", "prod-1"], ["Prod-*", "prod-1"],
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

frozen(document, freezes) := decision if {
	decision := authz.decision with input as document
		with data.eksgateway.grants as [oncall]
		with data.eksgateway.freezes as freezes
}

test_freeze_denies_cancel_at_stage_request if {
	denied(
		frozen(cancel_input, [year_end]), ["year-end"],
		["Freeze year-end forbids cancel on this cluster until 2026-12-01T00:00:00Z."],
	)
}

test_freeze_and_missing_ticket_are_both_reasons if {
	frozen(change(cancel_input, "/action/properties/ticket", ""), [year_end]).rules == ["oncall", "year-end"]
}

test_freeze_does_not_deny_other_actions if {
	frozen(change(cancel_input, "/action/name", "get"), [year_end]).allow
}

test_freeze_begins_at_from if {
	not frozen(change(cancel_input, "/context/time", year_end.from), [year_end]).allow
}

test_freeze_does_not_apply_before_from if {
	frozen(change(cancel_input, "/context/time", "2026-11-19T23:59:59Z"), [year_end]).allow
}

test_freeze_ends_at_until if {
	frozen(change(cancel_input, "/context/time", year_end.until), [year_end]).allow
}

test_freeze_does_not_apply_to_other_clusters if {
	frozen(cancel_input, [with_key(year_end, "clusters", ["staging-*", "lab"])]).allow
}

test_freeze_does_not_apply_to_other_accounts if {
	frozen(cancel_input, [with_key(year_end, "accounts", ["444455556666"])]).allow
}

test_freeze_applies_in_its_accounts_and_regions if {
	freeze := object.union(year_end, {"accounts": ["111122223333"], "regions": ["us-east-1"]})
	not frozen(cancel_input, [freeze]).allow
}

test_freeze_does_not_apply_to_other_regions if {
	frozen(cancel_input, [with_key(year_end, "regions", ["eu-central-1"])]).allow
}

test_freeze_does_not_apply_to_except_groups if {
	frozen(cancel_input, [with_key(year_end, "except_groups", ["corp:sre-leads", "corp:plat*"])]).allow
}

test_freeze_does_not_apply_to_groups_below_an_except_pattern if {
	below := change(cancel_input, "/subject/properties/groups", ["corp:platform", "corp:a/b/c"])
	frozen(below, [with_key(year_end, "except_groups", ["corp:a/**"])]).allow
}

test_freeze_applies_to_other_groups if {
	not frozen(cancel_input, [with_key(year_end, "except_groups", ["corp:sre-leads"])]).allow
}

test_one_of_several_freezes_denies if {
	not frozen(cancel_input, [with_key(year_end, "clusters", ["lab"]), with_key(year_end, "id", "second")]).allow
}

test_malformed_freeze_denies_every_cancel if {
	denied(
		frozen(cancel_input, [object.union(year_end, {"clusters": ["lab"], "untill": "x"})]), ["year-end"],
		["Freeze year-end is malformed: no cancel is allowed until it is corrected."],
	)
}

test_freeze_without_an_id_denies if {
	denied(
		frozen(cancel_input, [5]), ["freezes"],
		["Freeze freezes is malformed: no cancel is allowed until it is corrected."],
	)
}

test_freezes_that_are_not_a_list_deny if {
	every freezes in [null, false, {}, "none"] {
		denied(frozen(cancel_input, freezes), ["freezes"], ["The freezes are malformed: no cancel is allowed until they are corrected."])
	}
}

test_freeze_denies_with_an_unreadable_time if {
	not frozen(change(cancel_input, "/context/time", "2026-01-01"), [year_end]).allow
}

# Bounds

many(entry) := [with_key(entry, "id", concat("-", [entry.id, format_int(n, 10)])) | some n in numbers.range(1001, 1250)]

explained(decision) := [count(decision.rules), count(decision.reasons)]

test_group_below_a_pattern_is_covered if {
	below := change(cancel_input, "/subject/properties/groups", ["corp:a/b/c"])
	allowed_by(authz.decision, ["oncall"]) with input as below
		with data.eksgateway.grants as [with_key(oncall, "groups", ["corp:a/**"])]
}

test_at_most_a_hundred_grants_explain_an_allow if {
	decision := authz.decision with input as cancel_input
		with data.eksgateway.grants as many(oncall)
	decision.allow
	explained(decision) == [100, 100]
}

test_at_most_a_hundred_grants_explain_a_denial if {
	every document in [change(cancel_input, "/action/name", "history"), change(cancel_input, "/action/properties/reason", "")] {
		decision := authz.decision with input as document
			with data.eksgateway.grants as many(oncall)
		not decision.allow
		explained(decision) == [100, 100]
	}
}

test_a_reason_is_cut_off if {
	values := [concat("-", ["team", format_int(n, 10)]) | some n in numbers.range(1001, 1200)]
	decision := authz.decision with input as update_input
		with data.eksgateway.grants as [with_key(oncall, "tags", {"team": values})]
	denied(decision, ["oncall"], [substring(
		concat("", ["Grant oncall asks for the cluster's tag team to be ", concat(" or ", values)]),
		0, 400,
	)])
}

test_at_most_a_hundred_reasons_explain_a_denial if {
	tags := {key: ["x"] | some n in numbers.range(1001, 1200); key := format_int(n, 10)}
	decision := authz.decision with input as update_input
		with data.eksgateway.grants as [with_key(oncall, "tags", tags)]
	explained(decision) == [1, 100]
}

test_the_last_of_many_grants_counts if {
	other := [with_key(grant, "update_types", ["x"]) | some grant in many(oncall)]
	allowed_by(authz.decision, ["oncall"]) with input as update_input
		with data.eksgateway.grants as array.concat(other, [oncall])
}

test_at_most_a_hundred_freezes_explain_a_denial if {
	decision := frozen(cancel_input, many(year_end))
	not decision.allow
	explained(decision) == [100, 100]
}

test_the_last_of_many_freezes_counts if {
	spared := [with_key(freeze, "clusters", ["lab"]) | some freeze in many(year_end)]
	denied(
		frozen(cancel_input, array.concat(spared, [year_end])), ["year-end"],
		["Freeze year-end forbids cancel on this cluster until 2026-12-01T00:00:00Z."],
	)
}
