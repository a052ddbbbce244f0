package eksgateway.revision_test

import data.eksgateway.revision

test_hash_is_the_revision_of_the_index if {
	revision.hash == data.fixtures.year_end.revision with data.eksgateway.index as data.fixtures.year_end
}

test_edges_are_those_of_the_index if {
	revision.edges == {"times": [1795154400, 1796148000], "zones": {}} with data.eksgateway.index as data.fixtures.year_end
}

test_whole_index_has_no_fault if not revision.fault with data.eksgateway.index as data.fixtures.year_end

test_data_that_is_not_compiled_is_a_fault if {
	contains(revision.fault, "no compiled policy") with data.eksgateway.grants as []
}

test_data_beside_the_index_is_a_fault if {
	contains(revision.fault, "beside") with data.eksgateway.index as data.fixtures.oncall with data.eksgateway.freezes as []
}

test_another_form_is_a_fault if {
	other := object.union(data.fixtures.oncall, {"form": "eksgateway-index/2"})
	contains(revision.fault, "another form") with data.eksgateway.index as other
}

test_missing_part_is_a_fault if {
	part := object.remove(data.fixtures.oncall, ["freezes"])
	contains(revision.fault, "are missing") with data.eksgateway.index as part
}
