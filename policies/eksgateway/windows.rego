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
	some part in data.eksgateway.index.zones[data.eksgateway.index.windows[name].zone][year]
	is_now(part)
	every offset in [part.low, part.high] {
		some span in data.eksgateway.index.windows[name].inside
		within(span, offset)
	}
}

# METADATA
# description: The time is shown to be out of the window, under every offset.
outside(name) if {
	some part in data.eksgateway.index.zones[data.eksgateway.index.windows[name].zone][year]
	is_now(part)
	every offset in [part.low, part.high] {
		some span in data.eksgateway.index.windows[name].outside
		within(span, offset)
	}
}

year := substring(input.context.time, 0, 4)

is_now(part) if {
	part.from <= input.context.seconds
	input.context.seconds < part.until
}

within(span, offset) if {
	# The week begins on Monday, 00:00; 1970 began on a Thursday.
	second := ((input.context.seconds + offset) + 259200) % 604800
	span[0] <= second
	second < span[1]
}
