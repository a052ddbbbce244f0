"""Numbers of the work that this replica shares with the fleet, for metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FleetCounts:
    """Numbers by result, since the start.

    ``looks``: *taken* by this replica, *shared* (another replica's was used), *void* (this replica's was not
    used). ``draws`` of tokens: *granted*, *refused*, *unavailable* (PostgreSQL did not answer).
    """

    looks: Counter[str] = field(default_factory=lambda: Counter(taken=0, shared=0, void=0))
    draws: Counter[str] = field(default_factory=lambda: Counter(granted=0, refused=0, unavailable=0))
