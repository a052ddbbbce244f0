package eksgateway.revision_test

import data.eksgateway.revision

test_hash_of_no_data if revision.hash

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

test_no_edges_of_no_data if revision.edges == set()

test_no_edges_of_freezes_that_are_none if revision.edges == set() with data.eksgateway.freezes as "none"

test_edges_of_every_freeze if {
	freezes := [{"id": "a", "from": "1", "until": "2"}, {"until": "3"}, "none"]
	revision.edges == {"1", "2", "3"} with data.eksgateway.freezes as freezes
}
