"""Exclusions that leave nothing, and those that exclude nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from eksgateway.policy.coverage import Entry
from eksgateway.policy.lint.finding import Finding, Named, entries_of
from eksgateway.policy.lint.pattern_index import PatternIndex
from eksgateway.policy.review.words import overlap, word_of

_MAX_PAIRS: Final = 100_000  # of one entry; beyond, exclusions are not judged


def find(content: Mapping[str, Sequence[Entry]]) -> Iterator[Finding]:
    for each in entries_of(content):
        if "except_clusters" in each.entry:
            yield from _find_in_clusters(each)


def _find_in_clusters(each: Named) -> Iterator[Finding]:
    clusters, excluded = each.entry.get("clusters", ["*"]), each.entry["except_clusters"]
    wider = PatternIndex.of(excluded)
    gone = [wider.has(word_of(pattern)) for pattern in clusters]
    if all(gone):
        text = "excludes all clusters of the entry, so that it never has an effect"
        yield each.make_finding("excludes-all", "except_clusters", text)
        return
    for index, pattern in enumerate(clusters):
        if gone[index]:
            text = f"`{pattern}` has no effect: `except_clusters` excludes all of it"
            yield each.make_finding("excluded", f"clusters[{index}]", text)
    for index, pattern in enumerate(excluded if len(clusters) * len(excluded) <= _MAX_PAIRS else ()):
        if not any(overlap(pattern, cluster) for cluster in clusters):
            text = f"`{pattern}` excludes nothing: no pattern in `clusters` matches such a name"
            yield each.make_finding("excludes-nothing", f"except_clusters[{index}]", text)
