"""Notices: another replica, or this one, has changed something.

A notice names what changed, never how. PostgreSQL keeps none for a listener that is away, so each part that
hears notices also reads for itself after a reconnect, and at intervals.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Final
from uuid import uuid4

import psycopg
from psycopg import sql

from eksgateway.clock import Clock
from eksgateway.errors import StartError
from eksgateway.fleet.connections import (
    Connection,
    FleetConnection,
    connect,
    describe_error,
    shut_after,
    shut_socket,
)
from eksgateway.fleet.notice_queue import NoticeQueue
from eksgateway.fleet.notice_sender import NoticeSender
from eksgateway.ledger.cancellation_notices import CANCELLATIONS, CatchUp, Hear
from eksgateway.ledger.postgres.connection_parameters import read_url
from eksgateway.logs import Log

log = Log(__name__)

LOOKS: Final = "looks"  # the payload is a look's key
_PROBES: Final = "probes"

_RETRY_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)  # then again the last one
_ERRORS: Final = (psycopg.Error, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """``url`` reaches PostgreSQL itself, not a pooler.

    On a silent network a listener notices nothing. So it checks its connection every ``check_s``.
    """

    url: str
    schema: str
    deadline_s: float = 2.0
    check_s: float = 5.0


class Notices:
    """Calls the parts that subscribed. Their functions return at once.

        open ──► listening ──(the connection is lost)──► reconnecting
                     ▲                                        │
                     └──────────── LISTEN, catch up ◄─────────┘

    Without notices everything works as well: a change is then found by the next read.
    """

    def __init__(
        self, settings: ListenSettings, sender: FleetConnection, clock: Clock, random: Random
    ) -> None:
        """``sender`` reaches the database over ``ledger.url``. Raises StartError for a malformed URL."""
        self._parameters = read_url(settings.url)
        self._settings = settings
        self._prefix = f"{settings.schema}_"
        self._sender = NoticeSender(sender, settings.schema)
        self._clock = clock
        self._random = random
        self._hearers: dict[str, list[Hear]] = {}
        self._catch_ups: list[CatchUp] = []
        self._queue = NoticeQueue(self._deliver, self._catch_up)
        self._last = clock.monotonic()
        self._listening = False
        self._probe = ""  # the payload of the notice that this listener sent to itself
        self._logged_deaf = False
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()  # to listen, for the first time
        self._closed = False

    def subscribe(self, channel: str, hear: Hear, catch_up: CatchUp = lambda: None) -> None:
        """Call ``hear`` with the payload of each notice. Equal ones that come together are one.

        ``catch_up`` is called after notices may have been missed, once the connection listens again.
        """
        self._hearers.setdefault(channel, []).append(hear)
        self._catch_ups.append(catch_up)

    @property
    def listening(self) -> bool:
        """Whether it has heard a notice that it sent itself over ``ledger.url``."""
        return self._listening

    @property
    def age_s(self) -> float:
        """Seconds since the last notice; since the start before the first."""
        return self._clock.monotonic() - self._last

    async def open(self) -> None:
        """Listen from now on. Raises StartError if PostgreSQL cannot be reached."""
        try:
            connection = await connect(self._parameters)
        except _ERRORS as exc:
            reason = describe_error(exc, self._parameters)
            raise StartError(
                f"no connection to PostgreSQL for LISTEN ({reason}): correct `ledger.listen_url`, or"
                " `ledger.url` where that is not set"
            ) from exc
        self._task = asyncio.create_task(self._run(connection), name="notices")
        await self._tried.wait()

    async def close(self) -> None:
        self._closed = True
        self._queue.close()
        if self._connection is not None:
            shut_socket(self._connection)  # a task that is cancelled would first cancel its statement
        elif self._task is not None:
            self._task.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, connection: Connection | None) -> None:
        failures = 0
        while True:
            try:
                self._connection = connection = connection or await connect(self._parameters)
                await self._listen(connection)
                if failures:
                    log.info("fleet.listening", failures=failures)
                    failures = 0
                    self._catch_up()
                await self._send_probe()
                self._tried.set()
                await self._hear(connection)
            except _ERRORS as exc:
                if not failures and not self._closed:
                    log.warning("fleet.listener_lost", reason=describe_error(exc, self._parameters))
            except Exception:  # a bug must not end the notices
                log.exception("fleet.listener_failed")
            finally:
                self._connection, self._listening = None, False
                if connection is not None:
                    shut_socket(connection)
                    await connection.close()
            self._tried.set()
            if self._closed:
                return
            connection = None
            delay = _RETRY_S[min(failures, len(_RETRY_S) - 1)]
            failures += 1
            await self._clock.sleep(delay * self._random.uniform(0.5, 1))

    async def _listen(self, connection: Connection) -> None:
        names = [sql.Identifier(self._prefix + channel) for channel in (CANCELLATIONS, LOOKS, _PROBES)]
        with shut_after(connection, self._settings.deadline_s):
            await connection.execute(sql.SQL("; ").join(sql.SQL("LISTEN {}").format(each) for each in names))

    async def _send_probe(self) -> None:
        """``ledger.url`` may lead to another database, or over a pooler that hears nothing."""
        self._probe = probe = uuid4().hex
        if not await self._sender.send(_PROBES, [probe]):
            self._probe = ""

    async def _hear(self, connection: Connection) -> None:
        """Raises when the connection is lost."""
        while True:
            async for notice in connection.notifies(timeout=self._settings.check_s):
                self._receive(notice.channel.removeprefix(self._prefix), notice.payload)
            with shut_after(connection, self._settings.deadline_s):
                await connection.execute("SELECT 1")
            if not self._listening:
                self._log_deaf()
                await self._send_probe()

    def _log_deaf(self) -> None:
        if not self._probe or self._logged_deaf:
            return
        self._logged_deaf = True
        log.warning(
            "fleet.notices_not_heard",
            hint="`ledger.url` leads to a pooler, or `ledger.listen_url` to another database: set"
            " `ledger.listen_url` to the same database without a pooler. Until then this replica finds the"
            " changes of others at its own reads",
        )

    def _receive(self, channel: str, payload: str) -> None:
        if channel != _PROBES:
            self._last = self._clock.monotonic()
            self._queue.add(channel, payload)
        elif payload == self._probe:
            self._listening = True

    def _deliver(self, channel: str, payload: str) -> None:
        for hear in self._hearers.get(channel, ()):
            hear(payload)

    def _catch_up(self) -> None:
        for catch_up in self._catch_ups:
            try:
                catch_up()
            except Exception:  # a bug in one part must not end the notices of others
                log.exception("fleet.catch_up_failed")
