"""Patterns as Python matches them; the differential tests compare it with the Rego."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eksgateway.policy.patterns import matches

CASES = [
    ("prod-1", "prod-1 | prod-10 prod PROD-1"),
    ("prod-*", "prod- prod-1 prod-a:b | prod prod-a/b xprod-1"),
    ("*", "a a-b a:b | a/b /"),
    ("*-prod", "-prod a-prod | prod a/b-prod a-prod-"),
    ("a*a", "aa aba | a ab"),
    ("*-prod-*", "-prod- eu-prod-3 a-prod-prod-b | eu-prod eu/x-prod-3 eu-prod-3/x prod-3"),
    ("a*b*c", "abc aXbYc abbc abcbc | ac acb ab aXb/Yc aX/bc"),
    ("*/*", "/ a/b | a a/b/c"),
    ("a*/b/*c", "a/b/c aX/b/Yc | a/b/x/c aX/Y/b/c"),
    ("a/**", "a/ a/b a/b/c | a ab"),
    ("spiffe://**", "spiffe://a spiffe://a/b | spiffe:/a"),
]


@pytest.mark.parametrize(("pattern", "values"), CASES, ids=[pattern for pattern, _ in CASES])
def test_patterns_match_the_listed_values_and_no_others(pattern: str, values: str) -> None:
    inside, outside = values.split(" | ")
    assert [value for value in inside.split() if not matches(pattern, value)] == []
    assert [value for value in outside.split() if matches(pattern, value)] == []


@given(
    st.from_regex(r"[ab/:]*\*?[ab/:]+(\*[ab/:]*)?|[ab/:]*/\*\*", fullmatch=True), st.text("ab/:", max_size=12)
)
@example("a*b*", "aabbab")
@example("*a/b*", "a/a/b")
def test_matching_is_that_of_a_regular_expression(pattern: str, value: str) -> None:
    if pattern.endswith("/**"):
        expression = re.escape(pattern[:-2]) + ".*"
    else:
        expression = "[^/]*".join(map(re.escape, pattern.split("*")))
    assert matches(pattern, value) == (re.fullmatch(expression, value) is not None)
