package eksgateway.restrictions_test

import data.tests.support

test_freeze_denies_cancel_at_stage_request if {
	support.denied(
		support.decide(support.november, data.fixtures.year_end), ["year-end"],
		["Freeze year-end forbids cancel on this cluster until 2026-12-01T18:00:00Z."],
	)
}

test_freeze_and_missing_ticket_are_both_reasons if {
	support.decide(support.change(support.november, "/action/properties/ticket", ""), data.fixtures.year_end).rules == ["oncall", "year-end"]
}

test_freeze_does_not_deny_other_actions if {
	support.allowed_by(support.decide(support.change(support.november, "/action/name", "get"), data.fixtures.year_end), ["oncall"])
}

test_freeze_applies_from_begin_to_end if {
	every time in ["2026-11-20T06:00:00Z", "2026-12-01T17:59:59Z"] {
		not support.decide(support.at(support.cancel_input, time), data.fixtures.year_end).allow
	}
	every time in ["2026-11-20T05:59:59Z", "2026-12-01T18:00:00Z"] {
		support.decide(support.at(support.cancel_input, time), data.fixtures.year_end).allow
	}
}

test_freeze_does_not_apply_elsewhere if support.allowed_by(support.decide(support.november, data.fixtures.freeze_of_others), ["oncall"])

test_freeze_applies_in_its_accounts_and_regions if not support.decide(support.november, data.fixtures.freeze_here).allow

test_freeze_does_not_apply_to_except_groups if {
	below := support.change(support.november, "/subject/properties/groups", ["corp:platform", "corp:a/b/c"])
	support.allowed_by(support.decide(below, data.fixtures.freeze_with_exception), ["oncall"])
}

test_freeze_applies_to_other_groups if not support.decide(support.november, data.fixtures.freeze_with_exception).allow

test_freeze_does_not_apply_to_except_subjects if {
	support.allowed_by(support.decide(support.november, data.fixtures.freeze_with_excepted_subject), ["oncall"])
	other := support.change(support.november, "/subject/id", "jwt:corp:bob")
	not support.decide(other, data.fixtures.freeze_with_excepted_subject).allow
}

test_freeze_does_not_apply_to_except_clusters if {
	support.allowed_by(support.decide(support.november, data.fixtures.freeze_of_other_clusters), ["oncall"])
	other := support.change(support.november, "/resource/properties/cluster", "prod-2")
	not support.decide(other, data.fixtures.freeze_of_other_clusters).allow
}

# A frozen tag and type are judged at stage update.

november_update := support.at(support.update_input, "2026-11-22T10:00:00Z")

test_freeze_by_tag_applies_at_stage_update if {
	support.allowed_by(support.decide(support.november, data.fixtures.freeze_by_tag), ["oncall"])
	not support.decide(november_update, data.fixtures.freeze_by_tag).allow
	other := support.change(november_update, "/resource/properties/tags", {"environment": "staging"})
	support.allowed_by(support.decide(other, data.fixtures.freeze_by_tag), ["oncall"])
}

test_freeze_by_type_applies_at_stage_update if {
	support.allowed_by(support.decide(support.november, data.fixtures.freeze_by_type), ["oncall"])
	not support.decide(november_update, data.fixtures.freeze_by_type).allow
	other := support.change(november_update, "/resource/properties/update/type", "VersionUpdate")
	support.allowed_by(support.decide(other, data.fixtures.freeze_by_type), ["oncall"])
}

# Every night from 18:00 to 06:00 in Berlin, where it is 11:00 in November.

test_freeze_applies_within_its_windows if {
	every fixture in [data.fixtures.nights, data.fixtures.nights_in_november] {
		support.allowed_by(support.decide(support.november, fixture), ["oncall"])
		support.denied(
			support.decide(support.at(support.cancel_input, "2026-11-22T17:00:00Z"), fixture),
			["nights"], ["Freeze nights forbids cancel on this cluster now."],
		)
	}
}

test_freeze_with_windows_ends_too if {
	december := support.at(support.cancel_input, "2026-12-02T17:00:00Z")
	support.allowed_by(support.decide(december, data.fixtures.nights_in_november), ["oncall"])
}

# Denials

test_denial_beats_every_grant if {
	every document in [support.cancel_input, support.update_input, support.change(support.cancel_input, "/action/name", "get")] {
		support.denied(
			support.decide(document, data.fixtures.denial), ["stop"],
			["Denial stop forbids this: Compromised, see INC-7."],
		)
	}
}

test_denial_of_others_does_not_apply if {
	other := support.change(support.cancel_input, "/subject/id", "jwt:corp:bob")
	support.allowed_by(support.decide(other, data.fixtures.denial), ["oncall"])
}

test_stranger_does_not_learn_of_denials if {
	support.stranger(support.decide(support.change(support.cancel_input, "/subject/properties/groups", []), data.fixtures.denial))
}

test_denial_is_a_rule_beside_grants_without_the_action if {
	history := support.change(support.cancel_input, "/action/name", "history")
	support.decide(history, data.fixtures.denial).rules == ["oncall", "stop"]
}

test_denial_applies_from_begin_to_end if {
	every moment in ["2026-11-20T06:00:00Z", "2026-12-01T17:59:59Z"] {
		not support.decide(support.at(support.cancel_input, moment), data.fixtures.brief_denial).allow
	}
	every moment in ["2026-11-20T05:59:59Z", "2026-12-01T18:00:00Z"] {
		support.decide(support.at(support.cancel_input, moment), data.fixtures.brief_denial).allow
	}
}

test_denial_applies_at_an_unreadable_time if {
	get_input := support.change(support.change(support.cancel_input, "/action/name", "get"), "/context/time", "2020")
	not support.decide(get_input, data.fixtures.brief_denial).allow
}

test_denial_of_clusters_does_not_apply_to_others if {
	support.allowed_by(support.decide(support.cancel_input, data.fixtures.denial_of_clusters), ["oncall"])
	other := support.change(support.cancel_input, "/resource/properties/cluster", "prod-pci-1")
	not support.decide(other, data.fixtures.denial_of_clusters).allow
}

test_denial_of_all_clusters_applies_at_stage_target if {
	support.denied(
		support.decide(support.target_input, data.fixtures.denial_of_lists), ["stop"],
		["Denial stop forbids this: Compromised, see INC-7."],
	)
	support.allowed_by(support.decide(support.target_input, data.fixtures.denial_of_clusters_and_lists), ["oncall"])
}

test_one_of_several_freezes_denies if support.decide(support.november, data.fixtures.two_freezes).rules == ["year-end"]

test_unreadable_time_denies if {
	support.denied(support.decide(support.change(support.cancel_input, "/context/time", "2026-01-01"), data.fixtures.year_end), ["freezes"], ["The time cannot be read: no cancel is allowed."])
}
