"""Sends notices, in a statement of their own.

A COMMIT that sends a notice takes a lock of the whole server, and holds it while it waits for the disk or
for a synchronous standby. No other write of a replica must wait for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from eksgateway.fleet.connections import FleetConnection, FleetUnavailable
from eksgateway.logs import Log

log = Log(__name__)

_SEND: Final = """
    SELECT pg_notify(%(channel)s, payload)
    FROM set_config('synchronous_commit', 'off', true) AS fast,
        set_config('lock_timeout', '250', true) AS quick, unnest(%(payloads)s::text[]) AS payload
"""


class NoticeSender:
    """Sends the notices of one schema over a connection that other statements share."""

    def __init__(self, connection: FleetConnection, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self._failing = False

    async def send(self, channel: str, payloads: Sequence[str]) -> bool:
        """Whether they are sent. If not, replicas find the changes at their next reads."""
        notices = {"channel": f"{self._schema}_{channel}", "payloads": list(payloads)}
        try:
            await self._connection.fetch(_SEND, notices)
        except FleetUnavailable as exc:
            if not self._failing:
                log.warning("fleet.notices_not_sent", reason=str(exc))
            self._failing = True
        else:
            self._failing = False
        return not self._failing
