"""Entries whose time is over or never comes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from eksgateway.policy.compiler.edges import compile_edges
from eksgateway.policy.coverage import Entry
from eksgateway.policy.edges import parse_time, read_edges
from eksgateway.policy.lint.finding import Finding, Named, entries_of
from eksgateway.policy.review.times import is_inside_windows, is_over

_WEEK: Final = timedelta(days=7)


def find(content: Mapping[str, Sequence[Entry]], at: datetime) -> Iterator[Finding]:
    for each in entries_of(content):
        if is_over(each.entry, at):
            text = f"is over since {each.entry['until']}: it has no effect any more; remove it"
            yield each.make_finding("over", "until", text)
        elif "windows" in each.entry and not _has_a_window(each):
            text = "no window falls between `from` and `until`: it never has an effect"
            yield each.make_finding("windows-never-come", "windows", text)


def _has_a_window(each: Named) -> bool:
    """A window comes every week, so only shorter times need a look."""
    begins, ends = parse_time(each.entry.get("from")), parse_time(each.entry.get("until"))
    if begins is None or ends is None or ends - begins > _WEEK + timedelta(days=1):
        return True
    either = each.kind == "freeze"
    return any(
        is_inside_windows(each.entry, time, either=either) for time in _list_instants(each, begins, ends)
    )


def _list_instants(each: Named, begins: datetime, ends: datetime) -> Iterator[datetime]:
    """The begin, and each change until the end."""
    yield begins
    content = {"grants": [], "denials": [], "freezes": [], f"{each.kind}s": [each.entry]}
    edges = read_edges(compile_edges(content))
    time: datetime | None = begins
    while time is not None and (time := edges.next_after(time)) and time < ends:
        yield time
