package eksgateway.authz_test

import data.tests.support

# Callers, actions, clusters

test_group_is_allowed_at_stage_request if support.allowed_by(support.decide(support.cancel_input, data.fixtures.oncall), ["oncall"])

test_subject_is_allowed if support.allowed_by(support.decide(support.cancel_input, data.fixtures.subject), ["subject"])

test_group_that_matches_a_pattern_is_allowed if {
	support.allowed_by(support.decide(support.cancel_input, data.fixtures.group_star), ["oncall"])
	support.allowed_by(support.decide(support.cancel_input, data.fixtures.group_stars), ["oncall"])
	below := support.change(support.cancel_input, "/subject/properties/groups", ["corp:platform", "corp:a/b/c"])
	support.allowed_by(support.decide(below, data.fixtures.group_below), ["oncall"])
}

test_group_among_many_patterns_is_allowed if support.allowed_by(support.decide(support.cancel_input, data.fixtures.crowded), ["oncall"])

test_cluster_that_matches_two_stars_is_allowed if {
	support.allowed_by(support.decide(support.cancel_input, data.fixtures.cluster_stars), ["oncall"])
	support.stranger(support.decide(support.change(support.cancel_input, "/resource/properties/cluster", "pre-1"), data.fixtures.cluster_stars))
}

test_cluster_below_a_pattern_is_allowed if {
	support.allowed_by(support.decide(support.change(support.cancel_input, "/resource/properties/cluster", "prod/a/b"), data.fixtures.cluster_below), ["oncall"])
	support.stranger(support.decide(support.cancel_input, data.fixtures.cluster_below))
}

test_matching_update_is_allowed_at_stage_update if {
	decision := support.decide(support.update_input, data.fixtures.oncall)
	support.allowed_by(decision, ["oncall"])
	decision.reasons == ["Grant oncall allows this."]
}

test_all_matching_grants_allow_in_order if {
	support.allowed_by(support.decide(support.cancel_input, data.fixtures.two_grants), ["a-second", "oncall"])
}

test_stranger_gets_the_default_denial if {
	support.stranger(support.decide(support.cancel_input, data.fixtures.empty))
	support.stranger(support.decide(support.change(support.cancel_input, "/subject/properties/groups", ["corp:sales"]), data.fixtures.oncall))
}

test_grant_of_another_account_or_region_does_not_cover if {
	support.stranger(support.decide(support.cancel_input, data.fixtures.other_account))
	support.stranger(support.decide(support.cancel_input, data.fixtures.other_region))
}

test_stranger_does_not_learn_of_freezes if {
	support.stranger(support.decide(support.change(support.cancel_input, "/subject/properties/groups", ["corp:sales"]), data.fixtures.year_end))
}

test_empty_input_gets_the_default_denial if support.stranger(support.decide({}, data.fixtures.oncall))

test_excepted_cluster_is_not_covered if {
	support.allowed_by(support.decide(support.cancel_input, data.fixtures.except_clusters), ["oncall"])
	other := support.change(support.cancel_input, "/resource/properties/cluster", "prod-pci-1")
	support.stranger(support.decide(other, data.fixtures.except_clusters))
}

test_stars_are_all_accounts_and_regions if {
	support.allowed_by(support.decide(support.cancel_input, data.fixtures.everywhere), ["oncall"])
}

test_action_without_a_grant_is_denied if {
	support.denied(support.decide(support.change(support.cancel_input, "/action/name", "watch"), data.fixtures.oncall), ["oncall"], ["Grant oncall does not allow watch."])
}

# Stage target: account and region, and no cluster.

stranger_there(decision) if support.denied(decision, [], ["You have no grant in this account and region."])

test_list_of_some_cluster_is_allowed_at_stage_target if {
	support.allowed_by(support.decide(support.target_input, data.fixtures.list), ["oncall"])
	support.allowed_by(support.decide(support.target_input, data.fixtures.subject), ["subject"])
}

test_caller_without_list_is_denied_at_stage_target if {
	support.denied(support.decide(support.target_input, data.fixtures.oncall), ["oncall"], ["Grant oncall does not allow list."])
}

test_other_actions_are_denied_at_stage_target if {
	stranger_there(support.decide(support.change(support.target_input, "/action/name", "get"), data.fixtures.oncall))
}

test_stranger_is_denied_at_stage_target if stranger_there(support.decide(support.target_input, data.fixtures.other_region))

test_grant_with_via_denies_at_stage_target_too if {
	support.denied(support.decide(support.target_input, data.fixtures.list_with_via), ["oncall"], ["Grant oncall asks for a connection that this call did not come over."])
}

test_unknown_stage_is_denied if not support.decide(support.change(support.cancel_input, "/context/stage", "later"), data.fixtures.oncall).allow
