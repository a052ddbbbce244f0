"""The row of a replica in a real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from eksgateway.clock import SystemClock
from eksgateway.errors import LedgerUnavailable, StartError
from eksgateway.fleet.connections import FleetConnection
from eksgateway.fleet.replicas import Replica, Replicas
from support.logs import capture_logs
from support.postgres import LedgerDatabase
from support.tcp_proxy import TcpProxy
from support.waiting import wait_until


class Running:
    def __init__(self, url: str, *, beat_s: float = 0.1, deadline_s: float = 1.0) -> None:
        self.id = uuid4()
        self.connection = FleetConnection(url, deadline_s)
        self.replicas = Replicas(
            Replica(self.id, "host:1"), "eksgateway", self.connection, SystemClock(), beat_s=beat_s
        )

    async def leave(self) -> None:
        await self.replicas.close()
        await self.connection.close()

    async def die(self) -> None:
        """End without a word to PostgreSQL."""
        await self.connection.close()
        await self.replicas.close()

    async def is_ready(self) -> bool:
        try:
            await self.replicas.check()
        except LedgerUnavailable:
            return False
        return True

    async def wait_for_readiness(self, *, ready: bool) -> None:
        async with asyncio.timeout(60):
            while await self.is_ready() != ready:  # noqa: ASYNC110  it has no event
                await asyncio.sleep(0.01)


@asynccontextmanager
async def run_replica(url: str, **settings: float) -> AsyncIterator[Running]:
    replica = Running(url, **settings)
    try:
        await replica.replicas.open()
        yield replica
    finally:
        await replica.leave()


async def run(ledger_database: LedgerDatabase, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement as the owner; returns its rows."""
    async with await psycopg.AsyncConnection.connect(
        ledger_database.owner_url, autocommit=True
    ) as connection:
        await connection.execute("SET search_path = eksgateway")
        cursor = await connection.execute(statement, values)
        return await cursor.fetchall() if cursor.description else []


async def ids(ledger_database: LedgerDatabase) -> set[UUID]:
    return {row[0] for row in await run(ledger_database, "SELECT id FROM replicas")}


async def test_replicas_count_one_another_while_they_live(ledger_database: LedgerDatabase) -> None:
    async with run_replica(ledger_database.url) as one:
        assert one.replicas.alive == 1
        async with run_replica(ledger_database.url) as two, run_replica(ledger_database.url) as three:
            assert three.replicas.alive == 3
            await wait_until(lambda: one.replicas.alive == two.replicas.alive == 3)
            assert await ids(ledger_database) == {one.id, two.id, three.id}
        await wait_until(lambda: one.replicas.alive == 1)
        assert await ids(ledger_database) == {one.id}


async def test_the_row_has_the_name_and_the_version_and_its_times_are_the_databases(
    ledger_database: LedgerDatabase,
) -> None:
    async with run_replica(ledger_database.url):
        [(name, made, started, seen, now)] = await run(
            ledger_database, "SELECT name, version, started_at, seen_at, clock_timestamp() FROM replicas"
        )
        assert (name, made) == ("host:1", version("eksgateway"))
        assert started <= seen <= now
        async with asyncio.timeout(60):
            while (await run(ledger_database, "SELECT seen_at FROM replicas"))[0][0] == seen:
                pass
        [(again, later)] = await run(ledger_database, "SELECT started_at, seen_at FROM replicas")
        assert again == started
        assert later > seen


async def test_a_replica_that_left_has_no_row(ledger_database: LedgerDatabase) -> None:
    async with run_replica(ledger_database.url) as replica:
        assert await ids(ledger_database) == {replica.id}
    assert await ids(ledger_database) == set()


@pytest.mark.parametrize(
    ("age", "alive"),
    [("9 seconds", 2), ("11 seconds", 1), ("-1 hour", 1)],
    ids=["just seen", "silent", "written before the clock was set back"],
)
async def test_a_replica_is_alive_for_ten_seconds(
    ledger_database: LedgerDatabase, age: str, alive: int
) -> None:
    dead = Running(ledger_database.url)
    await dead.replicas.open()
    await dead.die()
    await run(ledger_database, "UPDATE replicas SET seen_at = clock_timestamp() - %s::interval", age)
    async with run_replica(ledger_database.url, beat_s=60) as replica:
        assert replica.replicas.alive == alive


async def test_rows_of_an_hour_ago_are_dropped(ledger_database: LedgerDatabase) -> None:
    old, young = Running(ledger_database.url), Running(ledger_database.url)
    for each, age in ((old, "61 minutes"), (young, "59 minutes")):
        await each.replicas.open()
        await each.die()
        await run(
            ledger_database,
            "UPDATE replicas SET seen_at = clock_timestamp() - %s::interval WHERE id = %s",
            age,
            each.id,
        )
    async with run_replica(ledger_database.url) as replica:
        await replica.replicas.drop_old()
        assert await ids(ledger_database) == {young.id, replica.id}


async def test_a_row_that_was_deleted_comes_back(ledger_database: LedgerDatabase) -> None:
    """Of a replica that was frozen for an hour."""
    async with run_replica(ledger_database.url) as replica:
        await run(ledger_database, "DELETE FROM replicas")
        async with asyncio.timeout(60):
            while await ids(ledger_database) != {replica.id}:
                pass


async def test_readiness_is_off_while_the_row_cannot_be_written(ledger_database: LedgerDatabase) -> None:
    """The reason is logged once, and the number of replicas stays the last one known."""
    with capture_logs() as logs:
        async with run_replica(ledger_database.url) as replica, run_replica(ledger_database.url):
            await wait_until(lambda: replica.replicas.alive == 2)
            assert await replica.is_ready()
            await run(ledger_database, "REVOKE INSERT ON replicas FROM eksgateway")
            await replica.wait_for_readiness(ready=False)
            with pytest.raises(LedgerUnavailable) as error:
                await replica.replicas.check()
            assert "permission denied" in error.value.detail
            assert replica.replicas.alive == 2
            await run(ledger_database, "GRANT INSERT ON replicas TO eksgateway")
            await replica.wait_for_readiness(ready=True)
    events = [line["event"] for line in logs if line["event"] == "fleet.replica_not_written"]
    assert 1 <= len(events) <= 2  # of each replica


async def test_a_silent_network_turns_readiness_off_by_the_deadline(ledger_database: LedgerDatabase) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(ledger_database.url)
    address = f"{parts['host']}:{parts['port']}"
    async with TcpProxy(address) as proxy:
        async with run_replica(
            ledger_database.url.replace(address, proxy.address), deadline_s=0.5
        ) as replica:
            proxy.passing.clear()
            began = time.monotonic()
            await replica.wait_for_readiness(ready=False)
            assert time.monotonic() - began < 3
            proxy.passing.set()
            await replica.wait_for_readiness(ready=True)
            proxy.passing.clear()
            began = time.monotonic()
        assert time.monotonic() - began < 3  # it leaves its row


async def test_a_row_that_waits_for_a_lock_turns_readiness_off(ledger_database: LedgerDatabase) -> None:
    """As on a disk that hangs. No other replica waits for this row."""
    async with run_replica(ledger_database.url, deadline_s=0.5) as replica:
        async with await psycopg.AsyncConnection.connect(ledger_database.owner_url) as connection:
            await connection.execute("SELECT FROM eksgateway.replicas WHERE id = %s FOR UPDATE", [replica.id])
            await replica.wait_for_readiness(ready=False)
            async with run_replica(ledger_database.url) as other:
                assert await other.is_ready()
        await replica.wait_for_readiness(ready=True)


async def test_statements_do_not_pile_up_behind_a_row_that_is_locked(ledger_database: LedgerDatabase) -> None:
    """A statement that is given up waits on in PostgreSQL, on a connection that is lost."""
    async with (
        run_replica(ledger_database.url, beat_s=0.02, deadline_s=0.3) as replica,
        await psycopg.AsyncConnection.connect(ledger_database.owner_url) as connection,
    ):
        await connection.execute("SELECT FROM eksgateway.replicas WHERE id = %s FOR UPDATE", [replica.id])
        await replica.wait_for_readiness(ready=False)
        with pytest.raises(LedgerUnavailable) as error:
            await replica.replicas.check()
        assert "lock timeout" in error.value.detail
        [(backends,)] = await run(
            ledger_database,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usename = 'eksgateway'",
            ledger_database.name,
        )
        assert backends == 1


async def test_a_start_without_postgresql_is_refused() -> None:
    replica = Running("postgresql://u:s3cret@127.0.0.1:1/db")
    with pytest.raises(StartError, match="refused") as error:
        await replica.replicas.open()
    assert "s3cret" not in str(error.value)
    await replica.leave()
