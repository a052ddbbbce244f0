"""All findings about policy data. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from eksgateway.policy.coverage import Entry
from eksgateway.policy.lint import callers, exclusions, hidden, redundant, settings, times, values
from eksgateway.policy.lint.finding import Finding
from eksgateway.settings import Settings


def find_all(
    content: Mapping[str, Sequence[Entry]],
    at: datetime,
    update_types: Collection[str],
    gateway: Settings | None = None,
) -> Iterator[Finding]:
    """``at`` is the time at which entries are over. With the settings of a gateway, names are compared with
    those that it knows.
    """
    yield from callers.find(content)
    yield from values.find(content, update_types)
    yield from exclusions.find(content)
    yield from times.find(content, at)
    yield from redundant.find(content, at)
    yield from hidden.find(content, at)
    if gateway is not None:
        yield from settings.find(content, gateway)
