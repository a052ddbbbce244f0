"""The rows of looks, read and written for many callers at once. Keys and results are texts here."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from psycopg import sql

from eksgateway.clock import Clock
from eksgateway.fleet.connections import Connection, FleetConnection, FleetUnavailable, Row, fetch
from eksgateway.fleet.look_statements import LookStatements
from eksgateway.fleet.notice_sender import NoticeSender
from eksgateway.fleet.notices import LOOKS
from eksgateway.fleet.statement_queue import StatementQueue
from eksgateway.logs import Log

log = Log(__name__)

_RETRY_S: Final = 1.0  # while PostgreSQL is away
_SET_BACK_S: Final = 0.1  # less is drift between two statements
_MAX_AGE: Final = 1e6  # which an interval of PostgreSQL can hold


@dataclass(frozen=True, slots=True)
class LookRow:
    """A row. Its times are monotonic, and never later than the truth.

    ``began`` is of the newest look, whose result is ``failure`` or else ``body``; None without a valid look.
    ``claimed``: another replica looks.
    """

    body: str | None = None
    failure: str | None = None
    looked_at: datetime | None = None
    began: float | None = None
    changed: float | None = None
    mine: bool = False
    claimed: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a look that began at ``time`` by the database's clock: a body or a failure."""

    key: str
    time: datetime
    body: str | None = None
    failure: str | None = None


class LookTable:
    """Every method raises FleetUnavailable while PostgreSQL is away: at once, except for the first."""

    def __init__(
        self,
        connection: FleetConnection,
        schema: str,
        replica_id: UUID,
        claim_s: float,
        clock: Clock,
    ) -> None:
        """``claim_s`` is longer than any read of EKS takes."""
        self.claim_s = claim_s
        self._connection = connection
        self._clock = clock
        self._statements = LookStatements.of_schema(schema)
        self._parameters = {"me": replica_id, "claim": timedelta(seconds=claim_s)}
        self._reads = StatementQueue(self._read_all)
        self._claims = StatementQueue(self._claim_all)
        self._reports = StatementQueue(self._report_all)
        self._frees = StatementQueue(self._free_all)
        self._forgets = StatementQueue(self._forget_all)
        self._notices = StatementQueue(self._send_all)
        self._sender = NoticeSender(connection, schema)
        self._sending: set[asyncio.Task[None]] = set()
        self._recovery: asyncio.Task[None] | None = None
        self._ahead = -math.inf  # what the monotonic clock lacks to the database's, or less
        self._closed = False
        self.valid_from = -math.inf  # monotonic: the database's clock was set back before, or never

    async def read(self, key: str) -> LookRow:
        return await self._reads.ask(key)

    async def claim(self, key: str, oldest: float) -> tuple[datetime, float] | None:
        """When the claim was granted, by the database's clock and monotonic.

        None if another replica looks, or if a look began after ``oldest`` (monotonic).
        """
        return await self._claims.ask((key, oldest))

    async def report(self, report: Report) -> float | None:
        """Write the result, and give the claim back. Returns when the body last changed (monotonic).

        None if the look is void.
        """
        return await self._reports.ask(report)

    async def free(self, key: str) -> None:
        """Give the claim back."""
        await self._frees.ask(key)

    async def forget(self, key: str) -> None:
        await self._forgets.ask(key)

    async def clean(self) -> None:
        """Delete some of the rows that were not used for an hour."""
        await self._run(self._statements.clean, {})

    async def close(self) -> None:
        self._closed = True
        if self._recovery is not None:
            self._recovery.cancel()
            await asyncio.gather(self._recovery, return_exceptions=True)
        await asyncio.gather(*self._sending)

    async def _read_all(self, keys: list[str]) -> Sequence[LookRow]:
        rows, asked = await self._run(self._statements.read, {"keys": keys})
        found = {row[0]: _to_row(row, asked) for row in rows}
        return [found.get(key, LookRow()) for key in keys]

    async def _claim_all(self, asked: list[tuple[str, float]]) -> Sequence[tuple[datetime, float] | None]:
        now = self._clock.monotonic()
        keys, ages = [key for key, _ in asked], [min(now - oldest, _MAX_AGE) for _, oldest in asked]
        rows, sent = await self._run(self._statements.claim, {"keys": keys, "ages": ages})
        granted = {key: (time, sent) for key, time in rows}
        return [granted.get(key) for key in keys]

    async def _report_all(self, reports: list[Report]) -> Sequence[float | None]:
        parameters = {
            "keys": [each.key for each in reports],
            "times": [each.time for each in reports],
            "bodies": [each.body for each in reports],
            "failures": [each.failure for each in reports],
        }
        rows, asked = await self._run(self._statements.report, parameters)
        self._send(key for key, *_, has_changed, _ in rows if has_changed)
        changed = {(key, time): asked - age for key, time, age, *_ in rows}
        return [changed.get((each.key, each.time)) for each in reports]

    async def _free_all(self, keys: list[str]) -> Sequence[None]:
        await self._run(self._statements.free, {"keys": keys})
        return [None] * len(keys)

    async def _forget_all(self, keys: list[str]) -> Sequence[None]:
        rows, _ = await self._run(self._statements.forget, {"keys": keys})
        self._send(key for key, _ in rows)
        return [None] * len(keys)

    def _send(self, keys: Iterable[str]) -> None:
        """Send notices, which no statement waits for."""
        for key in keys:
            task = asyncio.create_task(self._notices.ask(key))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send_all(self, keys: list[str]) -> Sequence[None]:
        await self._sender.send(LOOKS, keys)
        return [None] * len(keys)

    async def _run(self, statement: sql.Composed, parameters: dict[str, Any]) -> tuple[list[Row], float]:
        """The rows, and when the statement was sent (monotonic)."""

        async def work(connection: Connection) -> tuple[list[Row], float]:
            sent = self._clock.monotonic()
            rows = await fetch(connection, statement, self._parameters | parameters)
            if rows:
                await self._check_clock(connection, rows[-1][-1].timestamp(), sent)
            return rows, sent

        if self._recovery is not None:
            raise FleetUnavailable("PostgreSQL is away")
        try:
            return await self._connection.run(work)
        except FleetUnavailable as exc:
            if self._recovery is None and not self._closed:
                log.warning("fleet.looks_unshared", reason=str(exc))
                self._recovery = asyncio.create_task(self._recover())
            raise

    async def _check_clock(self, connection: Connection, time: float, sent: float) -> None:
        """The database's clock showed ``time`` after ``sent`` (monotonic)."""
        received = self._clock.monotonic()
        back_s = self._ahead - (time - sent)
        if back_s > _SET_BACK_S:
            self.valid_from = received
            log.warning("fleet.clock_set_back", seconds=round(back_s, 3))
            await connection.execute(self._statements.void)
        self._ahead = time - received

    async def _recover(self) -> None:
        while True:
            await self._clock.sleep(_RETRY_S)
            try:
                await self._connection.fetch("SELECT")
            except FleetUnavailable:
                continue
            log.info("fleet.looks_shared")
            self._recovery = None
            return


def _to_row(row: Row, asked: float) -> LookRow:
    _, body, failure, looked_at, age, unchanged, mine, valid, claimed, _ = row
    if not valid:
        return LookRow(claimed=claimed)
    changed = None if unchanged is None else asked - max(unchanged, age)
    return LookRow(body, failure, looked_at, asked - age, changed, mine, claimed)
