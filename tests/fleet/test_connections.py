"""Connections to a real PostgreSQL that is silent, frozen, restarted or gone."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from eksgateway.errors import StartError
from eksgateway.fleet import connections
from eksgateway.fleet.connections import Connection, FleetConnection, FleetUnavailable, connect
from eksgateway.fleet.statement_queue import StatementQueue
from eksgateway.ledger.postgres.connection_parameters import Parameters, read_url, resolve_hosts
from eksgateway.sandbox.postgres_server import PostgresServer
from support.processes import frozen
from support.tcp_proxy import TcpProxy
from support.waiting import wait_until

DEADLINE_S = 1.0
MARGIN_S = 1.0  # for a loaded machine; connecting alone may take 2 s, which is longer


def select(value: object) -> Callable[[Connection], Awaitable[Any]]:
    async def work(connection: Connection) -> Any:
        row = await (await connection.execute("SELECT %s::text", [value])).fetchone()
        assert row is not None
        return row[0]

    return work


async def backend_pid(connection: Connection) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    assert row is not None
    return int(row[0])


@asynccontextmanager
async def open_connection(url: str) -> AsyncIterator[FleetConnection]:
    connection = FleetConnection(url, DEADLINE_S)
    try:
        yield connection
    finally:
        await connection.close()


async def fail(connection: FleetConnection, *texts: str) -> float:
    """The seconds until a statement fails with one of the texts. The loop runs meanwhile."""
    began, turns = time.monotonic(), 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.02)
            turns += 1

    counting = asyncio.create_task(count_turns())
    with pytest.raises(FleetUnavailable) as error:
        await connection.run(select("a"))
    took = time.monotonic() - began
    counting.cancel()
    assert any(text in str(error.value) for text in texts), error.value
    assert turns >= int(took / 0.2)
    return took


def through(proxy: TcpProxy, server: PostgresServer) -> str:
    return server.url().replace(f"127.0.0.1:{server.port}", proxy.address)


async def test_one_connection_serves_all_statements(postgres: str) -> None:
    async with open_connection(postgres) as connection:
        answers = await asyncio.gather(*[connection.run(select(f"v{number}")) for number in range(20)])
        assert answers == [f"v{number}" for number in range(20)]
        pids = {await connection.run(backend_pid) for _ in range(3)}
        assert len(pids) == 1


async def test_a_silent_network_ends_a_wait_at_the_deadline(server: PostgresServer) -> None:
    """Those that wait for their turn fail with it, and the next statement has a new connection."""
    async with (
        TcpProxy(f"127.0.0.1:{server.port}") as proxy,
        open_connection(through(proxy, server)) as connection,
    ):
        first = await connection.run(backend_pid)
        proxy.passing.clear()
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *[connection.run(select("a")) for _ in range(5)], return_exceptions=True
        )
        assert time.monotonic() - began < DEADLINE_S + MARGIN_S
        assert [type(each) for each in outcomes] == [FleetUnavailable] * 5
        assert "did not answer within 1 s" in str(outcomes[0])
        proxy.passing.set()
        assert await connection.run(backend_pid) != first


async def test_connecting_over_a_silent_network_ends_at_the_deadline(server: PostgresServer) -> None:
    async with (
        TcpProxy(f"127.0.0.1:{server.port}") as proxy,
        open_connection(through(proxy, server)) as connection,
    ):
        proxy.passing.clear()
        assert await fail(connection, "no connection to PostgreSQL within 1 s") < DEADLINE_S + MARGIN_S
        proxy.passing.set()
        assert await connection.run(select("a")) == "a"


async def test_a_frozen_postgresql_ends_a_wait_at_the_deadline(server: PostgresServer) -> None:
    async with open_connection(server.url()) as connection:
        with frozen(await connection.run(backend_pid)):
            assert await fail(connection, "did not answer within 1 s") < DEADLINE_S + MARGIN_S
            assert await connection.run(select("a")) == "a"  # by another backend


async def test_a_deadline_needs_no_free_descriptor(postgres: str) -> None:
    async with open_connection(postgres) as connection:
        await connection.run(backend_pid)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with pytest.raises(FleetUnavailable, match="did not answer within 1 s"):
                await connection.fetch("SELECT pg_sleep(5)")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_connecting_to_a_frozen_postgresql_ends_at_the_deadline(server: PostgresServer) -> None:
    async with open_connection(server.url()) as connection:
        with frozen(server.pid):
            assert await fail(connection, "no connection to PostgreSQL") < DEADLINE_S + MARGIN_S
        assert await connection.run(select("a")) == "a"


async def test_an_idle_connection_is_replaced_after_a_restart(server: PostgresServer) -> None:
    """No statement fails."""
    async with open_connection(server.url()) as connection:
        assert await connection.run(select("a")) == "a"
        server.stop()
        await fail(connection, "refused")
        server.start()
        assert await connection.run(select("b")) == "b"
        server.stop(signal.SIGQUIT)
        server.start()
        assert await connection.run(select("c")) == "c"


async def test_a_backend_that_ends_fails_its_statement_only(postgres: str) -> None:
    async def end_itself(connection: Connection) -> None:
        await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    async with open_connection(postgres) as connection:
        with pytest.raises(FleetUnavailable, match="terminat"):
            await connection.run(end_itself)
        assert await connection.run(select("a")) == "a"


async def test_a_wrong_statement_keeps_the_connection(postgres: str) -> None:
    async def misspell(connection: Connection) -> None:
        await connection.execute("SELEKT 1")

    async with open_connection(postgres) as connection:
        pid = await connection.run(backend_pid)
        with pytest.raises(FleetUnavailable, match="SELEKT"):
            await connection.run(misspell)
        assert await connection.run(backend_pid) == pid


async def test_work_that_leaves_a_transaction_open_loses_the_connection(postgres: str) -> None:
    async def leave_open(connection: Connection) -> None:
        await connection.execute("BEGIN")

    async with open_connection(postgres) as connection:
        pid = await connection.run(backend_pid)
        await connection.run(leave_open)
        assert await connection.run(backend_pid) != pid


async def test_a_cancelled_caller_leaves_its_statement_running(postgres: str) -> None:
    """No cancel request is sent, and the next statement waits for its turn."""
    begun, done = asyncio.Event(), asyncio.Event()

    async def sleep(connection: Connection) -> None:
        begun.set()
        await connection.execute("SELECT pg_sleep(0.2)")
        done.set()

    async with open_connection(postgres) as connection:
        await connection.run(backend_pid)
        task = asyncio.create_task(connection.run(sleep))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not done.is_set()
        await connection.run(select("a"))
        assert done.is_set()


async def test_close_ends_the_statement_under_way(postgres: str) -> None:
    begun = asyncio.Event()

    async def sleep(connection: Connection) -> None:
        begun.set()
        await connection.execute("SELECT pg_sleep(60)")

    connection = FleetConnection(postgres, deadline_s=60)
    await connection.run(backend_pid)
    task = asyncio.create_task(connection.run(sleep))
    await begun.wait()
    await connection.close()
    with pytest.raises(FleetUnavailable):
        await task
    with pytest.raises(FleetUnavailable, match="closed"):
        await connection.run(select("a"))


async def test_close_ends_connecting(server: PostgresServer) -> None:
    async with TcpProxy(f"127.0.0.1:{server.port}") as proxy:
        proxy.passing.clear()
        connection = FleetConnection(through(proxy, server), deadline_s=60)
        task = asyncio.create_task(connection.run(select("a")))
        await wait_until(lambda: proxy.connections)
        await connection.close()
        with pytest.raises(FleetUnavailable, match="closed"):
            await task


async def test_close_ends_a_connection_that_opened_after_its_deadline(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Connection] = []

    async def open_late(parameters: Parameters) -> Connection:
        opened.append(await connect(parameters))
        return opened[0]

    async with TcpProxy(f"127.0.0.1:{server.port}") as proxy:
        connection = FleetConnection(through(proxy, server), DEADLINE_S)
        with monkeypatch.context() as patched:
            patched.setattr(connections, "connect", open_late)
            proxy.passing.clear()
            await fail(connection, "no connection to PostgreSQL within 1 s")
            proxy.passing.set()
            await wait_until(lambda: opened)
        await connection.close()
        assert opened[0].closed


async def test_a_name_that_resolves_slowly_does_not_block(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline ends the wait. The name is not asked for again meanwhile."""
    asked, release = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    def resolve(host: str, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = postgres.replace("127.0.0.1", "db.internal")
    async with open_connection(url) as connection:
        for _ in range(2):
            assert await fail(connection, "no connection") < DEADLINE_S + MARGIN_S
        assert asked == ["db.internal"]
        release.set()
        assert await connection.run(select("a")) == "a"


def test_every_address_of_every_host_is_tried() -> None:
    conninfo = resolve_hosts(read_url("postgresql://localhost,192.0.2.1,/tmp:5433/db"))
    given = psycopg.conninfo.conninfo_to_dict(conninfo)
    hosts, addresses = str(given["host"]).split(","), str(given["hostaddr"]).split(",")
    assert set(zip(hosts, addresses, strict=True)) >= {("localhost", "127.0.0.1"), ("192.0.2.1", "192.0.2.1")}
    assert len(str(given["port"]).split(",")) == len(hosts)


@pytest.mark.parametrize(
    "url", ["postgresql://u:s3cret@127.0.0.1:1/db", "postgresql://u:s3cret@nowhere.invalid/db"]
)
async def test_texts_have_no_password(url: str) -> None:
    async with open_connection(url) as connection:
        with pytest.raises(FleetUnavailable) as error:
            await connection.run(select("a"))
    assert "s3cret" not in f"{error.value!r} {error.value.__cause__!r} {connection!r}"


def test_a_malformed_url_is_refused_without_its_password() -> None:
    with pytest.raises(StartError) as error:
        FleetConnection("postgresql//u:s3cret@h/db")
    assert "s3cret" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


async def test_all_that_is_asked_while_a_statement_runs_goes_into_the_next() -> None:
    runs: list[list[int]] = []
    gate = asyncio.Event()

    async def run(items: list[int]) -> list[int]:
        runs.append(items)
        await gate.wait()
        return [item * 10 for item in items]

    batches = StatementQueue(run)
    tasks = [asyncio.create_task(batches.ask(0))]
    await wait_until(lambda: runs)
    tasks += [asyncio.create_task(batches.ask(number)) for number in range(1, 5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, int)] == [0, 10, 30, 40]
    assert runs == [[0], [1, 3, 4]]


async def test_a_failed_batch_fails_all_that_asked_and_no_other() -> None:
    async def run(items: list[int]) -> list[int]:
        if 1 in items:
            raise FleetUnavailable("away")
        return items

    batches = StatementQueue(run)
    outcomes = await asyncio.gather(batches.ask(1), batches.ask(2), return_exceptions=True)
    assert [str(each) for each in outcomes] == ["away", "away"]
    assert outcomes[0] is not outcomes[1]
    assert await batches.ask(3) == 3
