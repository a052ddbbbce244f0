# METADATA
# title: Patterns
package eksgateway.patterns

# METADATA
# description: |
#   A pattern is exact, or has one or two `*` (any characters but `/`), or ends in `/**` (all the rest).
matches(pattern, value) if pattern == value

matches(pattern, value) if {
	contains(pattern, "*")
	[head, tail] := split(pattern, "*")
	not contains(between(head, tail, value), "/")
}

matches(pattern, value) if {
	contains(pattern, "*")
	[head, middle, tail] := split(pattern, "*")
	has_middle(between(head, tail, value), middle)
}

matches(pattern, value) if {
	endswith(pattern, "/**")
	startswith(value, trim_suffix(pattern, "**"))
}

# METADATA
# description: The text is the middle of two stars and what these stand for, which has no `/`.
has_middle(text, middle) if {
	contains(text, middle)
	count(split(text, "/")) == count(split(middle, "/"))
}

# METADATA
# description: A ticket's pattern is exact, or has one `*`, or one `#` (one or more digits).
matches_ticket(pattern, ticket) if {
	not contains(pattern, "#")
	matches(pattern, ticket)
}

matches_ticket(pattern, ticket) if {
	[head, tail] := split(pattern, "#")
	digits := between(head, tail, ticket)
	digits != ""
	trim(digits, "0123456789") == ""
}

# The part of a value between a head and a tail. Undefined if it does not begin and end with them.
between(head, tail, value) := substring(value, count(head), length) if {
	startswith(value, head)
	endswith(value, tail)
	length := (count(value) - count(head)) - count(tail)
	length >= 0
}
