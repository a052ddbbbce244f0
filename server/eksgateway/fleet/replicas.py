"""The replicas: the row of this one, which it writes again and again, and the number of those alive."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, LiteralString
from uuid import UUID

from psycopg import sql

from eksgateway.clock import Clock
from eksgateway.errors import LedgerUnavailable, StartError
from eksgateway.fleet.connections import FleetConnection, FleetUnavailable, Row
from eksgateway.logs import Log

log = Log(__name__)

# Only an earlier statement of this replica can hold the lock of its row: its commit waits for a standby.
# Without a limit each further one would wait too, and take one more of PostgreSQL's connections.
_LIMITS: Final = "set_config('lock_timeout', '100', true) AS limits"
# Seen within 10 s by the database's clock; a row from the future was written before that clock was set back.
_BEAT: Final = """
    WITH beat AS (
        INSERT INTO {table} (id, name, version, started_at, seen_at)
        SELECT %(id)s, %(name)s, %(version)s, clock_timestamp(), clock_timestamp() FROM {limits}
        ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()
    )
    SELECT 1 + count(*) FROM {table}
    WHERE id <> %(id)s AND clock_timestamp() - seen_at BETWEEN '-1 s' AND '10 s'
"""
_LEAVE: Final = "DELETE FROM {table} USING {limits} WHERE id = %(id)s"
_DROP_OLD: Final = """
    DELETE FROM {table} USING (
        SELECT id FROM {table} WHERE seen_at < clock_timestamp() - interval '1 hour' FOR UPDATE SKIP LOCKED
    ) AS old WHERE {table}.id = old.id
"""


@dataclass(frozen=True, slots=True)
class Replica:
    """One process; its id is new at each start."""

    id: UUID
    name: str


class Replicas:
    """``alive`` is the number of replicas with this one, at the last answer of PostgreSQL.

    The row is also the test whether PostgreSQL can be written: unlike a write to the ledger, it waits for no
    other replica.
    """

    def __init__(
        self, own: Replica, schema: str, connection: FleetConnection, clock: Clock, beat_s: float = 2.0
    ) -> None:
        self.alive = 1
        self.own = own
        self._row = {"id": own.id, "name": own.name, "version": version("eksgateway")}
        self._table = sql.Identifier(schema, "replicas")
        self._connection = connection
        self._clock = clock
        self._beat_s = beat_s
        self._failure = ""  # of the last write
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Write the row, and go on writing it. Raises StartError."""
        try:
            await self._beat()
        except FleetUnavailable as exc:
            raise StartError(f"the row of this replica cannot be written to PostgreSQL: {exc}") from exc
        self._task = asyncio.create_task(self._beat_on(), name="replica")

    async def check(self) -> None:
        """Return if the row was written at the last attempt, at most some seconds ago.

        Raises LedgerUnavailable.
        """
        if self._failure:
            raise LedgerUnavailable(detail=self._failure)

    async def drop_old(self) -> None:
        """Delete rows of replicas that were killed an hour ago. Raises FleetUnavailable."""
        await self._fetch(_DROP_OLD)

    async def close(self) -> None:
        """Delete the row, if PostgreSQL answers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            with contextlib.suppress(FleetUnavailable):
                await self._fetch(_LEAVE)

    async def _beat_on(self) -> None:
        while True:
            await self._clock.sleep(self._beat_s)
            try:
                await self._beat()
            except FleetUnavailable as exc:
                if not self._failure:
                    log.warning("fleet.replica_not_written", reason=str(exc))
                self._failure = str(exc)
            else:
                if self._failure:
                    log.info("fleet.replica_written", alive=self.alive)
                self._failure = ""

    async def _beat(self) -> None:
        ((self.alive,),) = await self._fetch(_BEAT)

    async def _fetch(self, statement: LiteralString) -> list[Row]:
        query = sql.SQL(statement).format(table=self._table, limits=sql.SQL(_LIMITS))
        return await self._connection.fetch(query, self._row)
