package eksgateway.lookup_test

import data.eksgateway.authz
import data.eksgateway.lookup
import data.tests.support

test_index_without_a_part_denies if {
	every name, _ in data.fixtures.year_end {
		not support.decide(support.november, object.remove(data.fixtures.year_end, [name])).allow
	}
	every name in lookup.marked {
		support.stranger(support.decide(support.cancel_input, object.remove(data.fixtures.oncall, [name])))
	}
}

test_index_with_a_part_of_another_denies if {
	every name in lookup.marked {
		mixed := object.union(object.remove(data.fixtures.oncall, [name]), {name: data.fixtures.year_end[name]})
		support.stranger(support.decide(support.cancel_input, mixed))
	}
}

test_freeze_without_its_entry_denies if {
	lost := json.remove(data.fixtures.year_end, ["/freezes/year-end"])
	not support.decide(support.november, lost).allow
}

test_denial_without_its_entry_denies if {
	lost := json.remove(data.fixtures.denial, ["/denials/stop"])
	support.denied(support.decide(support.cancel_input, lost), ["stop"], ["Denial stop forbids this: its entry is missing."])
}

test_denial_that_is_also_a_grant_denies if {
	added := json.patch(data.fixtures.denial, [{"op": "add", "path": "/grants/stop", "value": "c0"}])
	not support.decide(support.cancel_input, added).allow
}

test_place_without_its_exceptions_denies if {
	lost := json.remove(data.fixtures.except_clusters, ["/except_clusters/p0"])
	support.stranger(support.decide(support.cancel_input, lost))
}

test_conditions_without_a_part_deny if {
	every name, _ in data.fixtures.oncall.conditions.c0 {
		lost := json.remove(data.fixtures.oncall, [concat("/", ["conditions/c0", name])])
		not support.decide(support.update_input, lost).allow
	}
}

test_data_beside_the_index_denies if {
	support.stranger(authz.decision) with input as support.cancel_input
		with data.eksgateway.index as data.fixtures.oncall
		with data.eksgateway.freezes as []
	support.stranger(authz.decision) with input as support.cancel_input with data.eksgateway.grants as [{"id": "oncall"}]
}
