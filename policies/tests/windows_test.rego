package eksgateway.windows_test

import data.eksgateway.windows

# Saturday, 22:00, until Sunday, 02:30; in Berlin, whose clock goes back on 2026-10-25 at 01:00 UTC.
night := {"zone": "Europe/Berlin", "inside": [[511200, 527400]], "outside": [[0, 511200], [527400, 604800]]}

whole_week := {"zone": "Europe/Berlin", "inside": [[0, 604800]], "outside": []}

berlin := {"2026": [
	{"from": 1774746000, "until": 1792886400, "low": 7200, "high": 7200},
	{"from": 1792886400, "until": 1792893600, "low": 3600, "high": 7200},
	{"from": 1792893600, "until": 1798761600, "low": 3600, "high": 3600},
]}

index := {"windows": {"w0": night, "w1": whole_week}, "zones": {"Europe/Berlin": berlin}}

at(moment) := {"context": {"time": moment, "seconds": time.parse_rfc3339_ns(moment) / 1000000000}}

state(time) := states_of(time, "w0", index)

states_of(time, name, document) := {state |
	some state, holds in {
		"inside": is_inside(time, name, document),
		"outside": is_outside(time, name, document),
	}
	holds
}

default is_inside(_, _, _) := false

is_inside(time, name, document) if {
	windows.inside(name) with input as at(time) with data.eksgateway.index as document
}

default is_outside(_, _, _) := false

is_outside(time, name, document) if {
	windows.outside(name) with input as at(time) with data.eksgateway.index as document
}

test_window_begins_at_its_local_time if {
	state("2026-10-24T19:59:59Z") == {"outside"}
	state("2026-10-24T20:00:00Z") == {"inside"}
}

test_window_ends_at_its_local_time if {
	state("2026-11-01T01:29:59Z") == {"inside"}
	state("2026-11-01T01:30:00Z") == {"outside"}
}

test_time_close_to_a_clock_change_is_inside_under_both_offsets_only if {
	state("2026-10-25T00:29:59Z") == {"inside"}
	state("2026-10-25T00:30:00Z") == set()
	state("2026-10-25T01:29:59Z") == set()
	state("2026-10-25T01:30:00Z") == {"outside"}
}

test_whole_week_is_never_outside if {
	states_of("2026-10-25T01:30:00Z", "w1", index) == {"inside"}
	states_of("2026-06-03T12:00:00Z", "w1", index) == {"inside"}
}

test_time_of_a_year_that_is_not_compiled_is_neither if state("2027-06-01T12:00:00Z") == set()

test_unknown_window_is_neither if states_of("2026-06-01T12:00:00Z", "w9", index) == set()

test_lost_part_is_neither if {
	every path in [
		"/windows/w0/zone", "/windows/w0/inside/0", "/zones/Europe~1Berlin/2026/0",
		"/zones/Europe~1Berlin/2026/0/low", "/zones/Europe~1Berlin/2026/0/until",
	] {
		changed := json.patch(index, [{"op": "remove", "path": path}])
		states_of("2026-10-24T20:00:00Z", "w0", changed) == set()
	}
}

test_lost_seconds_are_neither if {
	document := {"context": {"time": "2026-10-24T20:00:00Z"}}
	not windows.inside("w0") with input as document with data.eksgateway.index as index
	not windows.outside("w0") with input as document with data.eksgateway.index as index
}

hour(time) := found if {
	found := windows.hour with input as at(time) with data.eksgateway.index.rules as {"from": 1767225600, "until": 1798761600}
}

test_hours_are_of_the_week_of_utc if {
	hour("2026-10-19T00:00:00Z") == "0"
	hour("2026-10-25T23:59:59Z") == "167"
}

test_hour_of_a_year_that_is_not_compiled_is_any if {
	hour("2027-01-01T00:00:00Z") == "any"
	hour("2025-12-31T23:59:59Z") == "any"
}

test_hour_without_rules_is_any if {
	windows.hour == "any" with input as at("2026-10-19T00:00:00Z") with data.eksgateway.index as {}
}
