"""Patterns over callers, clusters, versions and claims, as the Rego matches them."""

from __future__ import annotations

from collections.abc import Iterable


def matches(pattern: str, value: str) -> bool:
    """Whether a pattern that the schema accepts matches a value.

    A pattern is exact; or has one or two single ``*``, each any run of characters but ``/``; or ends in
    ``/**``, which is the rest.
    """
    if "*" not in pattern:
        return pattern == value
    if pattern.endswith("/**"):
        return value.startswith(pattern[:-2])
    head, *middle, tail = pattern.split("*")
    if not (value.startswith(head) and value.endswith(tail) and len(value) >= len(head) + len(tail)):
        return False
    between = value[len(head) : len(value) - len(tail)]
    # The texts of the stars surround the middle, and neither has a `/`. With two stars any place of the
    # middle will do: the stars may share what is left of it.
    return any(_leaves_no_slash(between, part) for part in middle) if middle else "/" not in between


def matches_any(patterns: Iterable[str], value: str) -> bool:
    return any(matches(pattern, value) for pattern in patterns)


def _leaves_no_slash(between: str, middle: str) -> bool:
    place = between.find(middle)
    while place >= 0:
        if "/" not in between[:place] and "/" not in between[place + len(middle) :]:
            return True
        place = between.find(middle, place + 1)
    return False
