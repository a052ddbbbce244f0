"""How many calls and streams are in flight. A request that is still being read holds no slot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from eksgateway.edge.connect_error import refuse
from eksgateway.edge.connections import Connection
from eksgateway.errors import Draining, Overloaded
from eksgateway.settings import HttpSettings


class Slots:
    """``draining`` refuses new ones."""

    def __init__(self, settings: HttpSettings) -> None:
        self._limits = {False: settings.calls, True: settings.streams}
        self._held: Counter[bool] = Counter()
        self.draining = False

    @property
    def streams(self) -> int:
        return self._held[True]

    @contextmanager
    def hold(self, request: web.BaseRequest, *, stream: bool) -> Iterator[None]:
        """Raises ConnectError. The connection is not ended to make room meanwhile."""
        if self.draining:
            raise refuse(Draining())
        if self._held[stream] >= self._limits[stream]:
            raise refuse(Overloaded())
        connection = request.protocol
        assert isinstance(connection, Connection)  # noqa: S101
        self._held[stream] += 1
        connection.is_busy = True
        try:
            yield
        finally:
            connection.is_busy = False
            self._held[stream] -= 1
