package eksgateway.revision_test

import data.eksgateway.revision

test_no_data_has_a_hash if revision.hash

test_hash_changes_with_the_grants if {
	before := revision.hash with data.eksgateway.grants as []
	after := revision.hash with data.eksgateway.grants as [{"id": "a"}]
	before != after
}

test_hash_changes_with_the_freezes if {
	before := revision.hash with data.eksgateway.freezes as []
	after := revision.hash with data.eksgateway.freezes as [{"id": "a"}]
	before != after
}

test_no_data_has_no_edges if revision.edges == set()

test_malformed_freezes_have_no_edges if revision.edges == set() with data.eksgateway.freezes as "none"

test_every_freeze_has_edges if {
	freezes := [{"id": "a", "from": "1", "until": "2"}, {"until": "3"}, "none"]
	revision.edges == {"1", "2", "3"} with data.eksgateway.freezes as freezes
}
