package eksgateway.patterns_test

import data.eksgateway.patterns

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
		patterns.matches(pair[0], pair[1])
	}
}

test_patterns_that_do_not_match if {
	every pair in other {
		not patterns.matches(pair[0], pair[1])
	}
}

test_tickets_that_match if {
	every pair in [["OPS-1", "OPS-1"], ["OPS-#", "OPS-12"], ["#", "7"], ["#-x", "12-x"], ["https://t/*", "https://t/OPS-1"]] {
		patterns.matches_ticket(pair[0], pair[1])
	}
}

test_tickets_that_do_not_match if {
	every pair in [["OPS-#", "OPS-"], ["OPS-#", "OPS-#"], ["OPS-#", "OPS-1x"], ["OPS-#", "OPS-٣"], ["#", ""], ["a#a", "a"], ["https://t/*", "https://t/a/b"]] {
		not patterns.matches_ticket(pair[0], pair[1])
	}
}
