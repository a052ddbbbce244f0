package eksgateway.reasons_test

import data.tests.support

many_ids := [concat("-", ["m", format_int(number, 10)]) | some number in numbers.range(1001, 1250)]

many_grants := json.patch(data.fixtures.oncall, [
	{"op": "replace", "path": "/grants", "value": object.union(data.fixtures.oncall.grants, {id: "c0" | some id in many_ids})},
	{"op": "replace", "path": "/few/p0", "value": {"corp:platform": many_ids}},
])

explained(decision) := [count(decision.rules), count(decision.reasons)]

test_at_most_a_hundred_grants_explain_an_allow if {
	decision := support.decide(support.cancel_input, many_grants)
	decision.allow
	explained(decision) == [100, 100]
}

test_at_most_a_hundred_grants_explain_a_denial if {
	every document in [support.change(support.cancel_input, "/action/name", "history"), support.change(support.cancel_input, "/action/properties/reason", "")] {
		decision := support.decide(document, many_grants)
		not decision.allow
		explained(decision) == [100, 100]
	}
}

test_a_reason_is_cut_off if {
	values := [concat("-", ["team", format_int(n, 10)]) | some n in numbers.range(1001, 1200)]
	index := json.patch(data.fixtures.oncall, [{"op": "add", "path": "/conditions/c0/tags", "value": {"team": values}}])
	support.denied(support.decide(support.update_input, index), ["oncall"], [substring(
		concat("", ["Grant oncall asks for the cluster's tag team to be ", concat(" or ", values)]),
		0, 400,
	)])
}

test_at_most_a_hundred_reasons_explain_a_denial if {
	tags := {key: ["x"] | some n in numbers.range(1001, 1200); key := format_int(n, 10)}
	index := json.patch(data.fixtures.oncall, [{"op": "add", "path": "/conditions/c0/tags", "value": tags}])
	explained(support.decide(support.update_input, index)) == [1, 100]
}

test_at_most_a_hundred_freezes_explain_a_denial if {
	index := json.patch(data.fixtures.year_end, [
		{"op": "add", "path": "/freezes", "value": object.union(
			{id: data.fixtures.year_end.freezes["year-end"] | some id in many_ids},
			{"": data.fixtures.year_end.revision},
		)},
		{"op": "add", "path": "/freeze_at/p1/2026-11-22", "value": many_ids},
	])
	decision := support.decide(support.november, index)
	not decision.allow
	explained(decision) == [100, 100]
}
