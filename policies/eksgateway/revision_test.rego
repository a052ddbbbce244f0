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
