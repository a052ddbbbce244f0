# METADATA
# title: Recurring windows
# description: |
#   Whether a time is inside or outside a named window of the index, in plain arithmetic on the input's
#   seconds. The index has the UTC offsets of each zone. Close to a clock change there are two, and both
#   rules hold only under both: a time may be neither inside nor outside. So is every time of a year that
#   is not compiled, and of a table that is lost.
package eksgateway.windows

# METADATA
# description: The time is shown to be in the window, under every offset.
inside(name) if {
	every second in seconds_of_week(data.eksgateway.index.windows[name].zone) {
		some span in data.eksgateway.index.windows[name].inside
		span[0] <= second
		second < span[1]
	}
}

# METADATA
# description: The time is shown to be out of the window, under every offset.
outside(name) if {
	every second in seconds_of_week(data.eksgateway.index.windows[name].zone) {
		some span in data.eksgateway.index.windows[name].outside
		span[0] <= second
		second < span[1]
	}
}

# METADATA
# description: |
#   The hour of UTC's week, 0 to 167, from Monday, 00:00. It is `any` in years that are not compiled. Windows
#   have the hours that they may touch.
default hour := "any"

hour := format_int(floor((input.context.seconds + 259200) / 3600) % 168, 10) if {
	data.eksgateway.index.rules.from <= input.context.seconds
	input.context.seconds < data.eksgateway.index.rules.until
}

# The local time under both offsets. The week begins on Monday, 00:00; 1970 began on a Thursday. Undefined
# and never empty, because `every` holds for an empty set. OPA evaluates it once for each zone.
seconds_of_week(zone) := {second |
	some offset in offsets
	second := ((input.context.seconds + offset) + 259200) % 604800
} if {
	some part in data.eksgateway.index.zones[zone][substring(input.context.time, 0, 4)]
	part.from <= input.context.seconds
	input.context.seconds < part.until
	offsets := {part.low, part.high}
}
