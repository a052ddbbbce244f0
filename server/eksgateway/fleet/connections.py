"""Connections to PostgreSQL for an event loop, whose waits end by a deadline.

On a silent network neither PostgreSQL's timeouts nor ``asyncio.timeout`` end a wait soon: the first are the
server's, and psycopg reacts to the second by asking the server to cancel. So the deadline shuts the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, LiteralString, TypeAlias, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.sql import Composed

from eksgateway.blocking import run_blocking
from eksgateway.ledger.postgres.connection_parameters import (
    Parameters,
    mask_password,
    read_url,
    resolve_hosts,
)

T = TypeVar("T")

Row: TypeAlias = tuple[Any, ...]
Connection: TypeAlias = psycopg.AsyncConnection[Row]
Statement: TypeAlias = LiteralString | Composed

_ENDED: Final = select.POLLIN | select.POLLHUP | select.POLLERR


class FleetUnavailable(Exception):
    """PostgreSQL failed, or did not answer in time. Whether a statement took effect is not known.

    The text has no password.
    """


class FleetConnection:
    """One connection, opened when it is first used, and replaced after a failure.

    It is in autocommit, and prepares no statements, so that it works through PgBouncer. Belongs to one event
    loop, which it never blocks.
    """

    def __init__(self, url: str, deadline_s: float = 2.0) -> None:
        """Raises StartError if ``url`` is not one of PostgreSQL."""
        self._parameters = read_url(url)
        self._deadline_s = deadline_s
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._lost: FleetUnavailable | None = None  # why the last connection was lost
        self._closed = False

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do ``work`` when its turn comes, within ``deadline_s`` from then on.

        A caller that is cancelled leaves at once, and the work goes on. If the connection is lost, every call
        that waits for its turn fails too. Raises FleetUnavailable, and what ``work`` raises.
        """
        return await asyncio.shield(self._start(self._run(work)))

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """``run`` one statement, and return its rows."""
        return await self.run(lambda connection: fetch(connection, statement, parameters))

    async def close(self) -> None:
        """Raise FleetUnavailable in the work under way."""
        self._closed = True
        if self._running and self._connection is not None:
            shut_socket(self._connection)
        if self._opening is not None:
            self._opening.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self._discard()
        await self._discard_opened()

    async def _run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        lost = self._lost
        async with self._turn:
            if self._lost is not lost:
                raise FleetUnavailable(str(self._lost)) from self._lost
            try:
                connection = await self._connect()
                with shut_after(connection, self._deadline_s):
                    return await work(connection)
            except (psycopg.Error, OSError, TimeoutError) as exc:
                raise self._unavailable(describe_error(exc, self._parameters)) from exc
            finally:
                await self._discard_unless_idle()

    async def _connect(self) -> Connection:
        """Wait at most ``deadline_s``. Connecting goes on then, because there may be many addresses."""
        if self._closed:
            raise self._unavailable("the connection is closed")
        if self._connection is not None and _has_ended(self._connection):
            await self._discard()
        if self._connection is None:
            if self._opening is None:
                self._opening = self._start(connect(self._parameters))
            await asyncio.wait({self._opening}, timeout=self._deadline_s)
            if not self._opening.done():
                raise self._unavailable(f"no connection to PostgreSQL within {self._deadline_s:g} s")
            opening, self._opening = self._opening, None
            if opening.cancelled():
                raise self._unavailable("the connection is closed")
            self._connection = opening.result()
        return self._connection

    def _unavailable(self, text: str) -> FleetUnavailable:
        error = FleetUnavailable(text)
        if self._connection is None or self._connection.closed:
            self._lost = error
        return error

    async def _discard_unless_idle(self) -> None:
        connection = self._connection
        if connection is not None and (
            connection.closed or connection.info.transaction_status is not TransactionStatus.IDLE
        ):
            await self._discard()

    async def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _discard_opened(self) -> None:
        """The connection that was opened after its deadline, and that no work took."""
        opening, self._opening = self._opening, None
        if opening is not None and not opening.cancelled() and opening.exception() is None:
            await opening.result().close()

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved here, because the caller may have left


async def connect(parameters: Parameters) -> Connection:
    """Open a connection in autocommit. Each address is tried for ``connect_timeout``, 2 s by default.

    Raises psycopg.Error, OSError.
    """
    conninfo = await run_blocking(resolve_hosts, parameters)
    return await psycopg.AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None)


async def fetch(
    connection: Connection, statement: Statement, parameters: Mapping[str, Any] | None = None
) -> list[Row]:
    """Empty for a statement without rows. Raises psycopg.Error."""
    cursor = await connection.execute(statement, parameters)
    return await cursor.fetchall() if cursor.description else []


def describe_error(exc: Exception, parameters: Parameters) -> str:
    """One line without the password."""
    return mask_password(" ".join(str(exc).split()) or type(exc).__name__, parameters)


@contextmanager
def shut_after(connection: Connection, seconds: float) -> Iterator[None]:
    """Shut the socket after ``seconds``, which ends the connection. Raises TimeoutError then."""
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        shut_socket(connection)

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        yield
    except psycopg.Error as exc:
        if expired:
            raise TimeoutError(f"PostgreSQL did not answer within {seconds:g} s") from exc
        raise
    finally:
        timer.cancel()


def shut_socket(connection: Connection) -> None:
    """End every wait for the server."""
    with contextlib.suppress(psycopg.Error, OSError):  # it has ended
        # Without a descriptor of its own, of which there may be none. libpq runs on this thread only.
        wire = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=connection.fileno())
        try:
            wire.shutdown(socket.SHUT_RDWR)
        finally:
            wire.detach()


def _has_ended(connection: Connection) -> bool:
    """An idle connection has nothing to read, unless the server has ended it."""
    if connection.closed:
        return True
    readable = select.poll()
    readable.register(connection.fileno(), _ENDED)
    return bool(readable.poll(0))
