"""Tokens that three replicas draw from one row, as far as the calls to EKS show it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from eksgateway.clock import SystemClock
from eksgateway.eks.budget import Budget, TurnUnused
from eksgateway.eks.target_budget import Lane
from eksgateway.errors import EksThrottled
from eksgateway.fleet.budget_table import BudgetTable
from eksgateway.fleet.connections import FleetConnection
from eksgateway.fleet.counts import FleetCounts
from eksgateway.fleet.tokens import FleetTokens
from eksgateway.model import Target
from support.logs import capture_logs
from support.postgres import SCHEMA, LedgerDatabase
from support.tcp_proxy import TcpProxy
from support.waiting import wait_until

RATE = 20.0
RESERVE, SIZE = RATE, 2 * RATE
HERE, THERE = Target("111122223333", "us-east-1"), Target("111122223333", "eu-west-1")


@dataclass
class Replica:
    """The budget of one gateway, and the times of its calls."""

    connection: FleetConnection
    tokens: FleetTokens
    budget: Budget
    counts: FleetCounts
    called: list[float] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def call(self, lane: Lane, caller: object = "k", target: Target = HERE) -> None:
        await self.budget.call(lane, target, caller, self.work())

    def work(self, error: Exception | None = None) -> Callable[[], Awaitable[None]]:
        async def call() -> None:
            if not isinstance(error, TurnUnused):
                self.called.append(time.monotonic())
            if error is not None:
                raise error

        return call

    def poll(self, pollers: int = 5) -> None:
        """Poll without a pause from now on."""

        async def poll_on(caller: int) -> None:
            while True:
                await self.call(Lane.POLL, caller)

        self.tasks |= {asyncio.create_task(poll_on(number)) for number in range(pollers)}

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.budget.close()
        await self.tokens.close()
        await self.connection.close()


@asynccontextmanager
async def run_replica(url: str, rate: float = RATE, alive: int = 3) -> AsyncIterator[Replica]:
    connection, counts, clock = FleetConnection(url, deadline_s=1), FleetCounts(), SystemClock()
    draws = BudgetTable(connection, SCHEMA)
    tokens = FleetTokens(draws, rate, lambda: alive, counts, clock, random.Random(1))
    replica = Replica(connection, tokens, Budget(rate, clock, tokens=tokens.of), counts)
    await tokens.open([HERE, THERE])
    try:
        yield replica
    finally:
        await replica.stop()


@pytest.fixture
async def replicas(ledger_database: LedgerDatabase) -> AsyncIterator[list[Replica]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(run_replica(ledger_database.url)) for _ in range(3)]


def read_row(ledger_database: LedgerDatabase, target: Target = HERE) -> DictRow:
    with psycopg.connect(ledger_database.url, row_factory=dict_row) as connection:
        row = connection.execute(
            "SELECT *, tokens + rate * extract(epoch FROM clock_timestamp() - at)::float8 AS now"
            " FROM eksgateway.budget WHERE target = %s",
            [f"{target.account_id}/{target.region}"],
        ).fetchone()
    assert row is not None
    return row


def most_above(called: list[float], rate: float) -> float:
    """By how many calls the worst window exceeds rate × window."""
    worst = level = 0.0
    last = 0.0
    for now in sorted(called):
        level = max(0.0, level - (now - last) * rate) + 1
        last, worst = now, max(worst, level)
    return worst


def all_calls(replicas: list[Replica]) -> list[float]:
    return sorted(time for replica in replicas for time in replica.called)


async def count_calls(replicas: list[Replica], seconds: float) -> tuple[int, float]:
    """The calls of the next seconds, and how many those are."""
    before, began = len(all_calls(replicas)), time.monotonic()
    await asyncio.sleep(seconds)
    return len(all_calls(replicas)) - before, time.monotonic() - began


async def test_replicas_that_poll_without_a_pause_get_the_tokens_due(
    replicas: list[Replica], ledger_database: LedgerDatabase
) -> None:
    """No more, and hardly less. The reserve stays whole, and each replica has its turns."""
    began = time.monotonic()
    for replica in replicas:
        replica.poll()
    await asyncio.sleep(3)
    calls, took = len(all_calls(replicas)), time.monotonic() - began
    assert (SIZE - RESERVE) + 0.85 * RATE * took - 2 <= calls <= (SIZE - RESERVE) + RATE * took + 1
    assert most_above(all_calls(replicas), RATE) <= SIZE - RESERVE + 1 + RATE * 0.1
    assert read_row(ledger_database)["tokens"] >= RESERVE - 1e-3
    assert min(len(replica.called) for replica in replicas) >= calls / 10


async def test_cancels_get_the_reserve_at_once(replicas: list[Replica]) -> None:
    """Polls of all replicas wait meanwhile."""
    for replica in replicas:
        replica.poll()
    await wait_until(lambda: len(all_calls(replicas)) > SIZE)
    began = time.monotonic()
    await asyncio.gather(
        *[replica.call(Lane.FORWARD, number) for replica in replicas for number in range(int(RESERVE / 3))]
    )
    assert time.monotonic() - began < 0.5


async def test_the_end_of_a_replica_loses_no_tokens(replicas: list[Replica]) -> None:
    """The others get what it would have had."""
    for replica in replicas:
        replica.poll()
    await wait_until(lambda: len(all_calls(replicas)) > SIZE)
    await replicas[0].connection.close()  # as kill -9 does
    for task in replicas[0].tasks:
        task.cancel()
    calls, took = await count_calls(replicas[1:], 2)
    assert calls == pytest.approx(RATE * took, abs=0.15 * RATE * took + 2)


async def test_throttling_halves_the_rate_of_all(
    replicas: list[Replica], ledger_database: LedgerDatabase
) -> None:
    """Once for calls that began together. The event is logged once."""
    with capture_logs() as logs:
        began = asyncio.Barrier(6)

        async def fail() -> None:
            await began.wait()
            raise EksThrottled

        throttled = [
            replica.budget.call(Lane.FORWARD, HERE, number, fail)
            for replica in replicas
            for number in range(2)
        ]
        await asyncio.gather(*throttled, return_exceptions=True)
        await wait_until(lambda: read_row(ledger_database)["halved_at"])
        for replica in replicas:
            await replica.call(Lane.FORWARD)
        rates = [replica.tokens.of(HERE).rate for replica in replicas]
    assert all(RATE / 2 <= rate < 0.9 * RATE for rate in rates)
    assert [line["calls_per_s"] for line in logs if line["event"] == "eks.throttled"] == [RATE / 2]
    assert read_row(ledger_database)["tokens"] <= RESERVE
    assert read_row(ledger_database, THERE)["halved_at"] is None


async def test_a_lone_cancel_draws_once(replicas: list[Replica], ledger_database: LedgerDatabase) -> None:
    """One round trip for its three calls. Tokens that it does not use come back a second later."""
    replica = replicas[0]
    await replica.budget.call_both(HERE, "k", replica.work(), replica.work())
    await replica.call(Lane.FORWARD)
    assert replica.counts.draws["granted"] == 1
    await replica.budget.call_both(HERE, "k", replica.work(), replica.work())
    assert replica.counts.draws["granted"] == 2
    assert read_row(ledger_database)["tokens"] < SIZE - 3
    await wait_until(lambda: read_row(ledger_database)["tokens"] > SIZE - 1)


async def test_a_token_that_was_not_used_comes_back(
    replicas: list[Replica], ledger_database: LedgerDatabase
) -> None:
    with pytest.raises(TurnUnused):
        await replicas[0].budget.call(Lane.READ, HERE, "k", replicas[0].work(TurnUnused()))
    assert read_row(ledger_database)["tokens"] < SIZE
    await wait_until(lambda: read_row(ledger_database)["tokens"] == SIZE)


async def test_the_newest_start_sets_the_rate_for_all(ledger_database: LedgerDatabase) -> None:
    """Both replicas log it."""
    async with run_replica(ledger_database.url, rate=10) as old:
        await old.call(Lane.READ)
        with capture_logs() as logs:
            async with run_replica(ledger_database.url, rate=4):
                await old.call(Lane.READ)
        assert old.tokens.of(HERE).rate == 4
    changed = [
        (line["region"], line["before"], line["calls_per_s"])
        for line in logs
        if line["event"] == "fleet.calls_per_s_changed"
    ]
    assert sorted(changed) == [(THERE.region, 10, 4), (HERE.region, 10, 4), (HERE.region, 10, 4)]
    row = read_row(ledger_database)
    assert (row["whole"], row["reserve"], row["size"]) == (4, 4, 8)


async def test_a_missing_row_is_made_again(replicas: list[Replica], ledger_database: LedgerDatabase) -> None:
    with psycopg.connect(ledger_database.owner_url) as connection:
        connection.execute("DELETE FROM eksgateway.budget")
    await replicas[0].call(Lane.READ)
    assert read_row(ledger_database)["tokens"] == pytest.approx(SIZE - 1, abs=1)


async def test_without_postgresql_each_replica_calls_with_its_part(ledger_database: LedgerDatabase) -> None:
    """Neither the loss nor the return makes a burst."""
    address = "{host}:{port}".format(**psycopg.conninfo.conninfo_to_dict(ledger_database.url))
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(TcpProxy(address))
        url = ledger_database.url.replace(address, proxy.address)
        replicas = [await stack.enter_async_context(run_replica(url)) for _ in range(3)]
        for replica in replicas:
            replica.poll()
        await wait_until(lambda: len(all_calls(replicas)) > SIZE)
        with capture_logs() as logs:
            proxy.refusing = True
            proxy.cut()
            await wait_until(lambda: logged(logs, "fleet.tokens_unavailable") == 3)
            calls, took = await count_calls(replicas, 3)
            assert calls == pytest.approx(RATE * took, abs=0.15 * RATE * took + 3)
            proxy.refusing = False
            await wait_until(lambda: logged(logs, "fleet.tokens_available") == 3)
        calls, took = await count_calls(replicas, 2)
        assert calls <= RATE * took + 3
        assert most_above(all_calls(replicas), RATE) <= SIZE
        assert [line["replicas"] for line in logs if line["event"] == "fleet.tokens_unavailable"] == [3] * 3


def logged(logs: list[dict[str, object]], event: str) -> int:
    return sum(line["event"] == event for line in logs)


async def test_a_silent_database_delays_calls_once(ledger_database: LedgerDatabase) -> None:
    """By the deadline. Cancels and reads that come later do not wait for it."""
    address = "{host}:{port}".format(**psycopg.conninfo.conninfo_to_dict(ledger_database.url))
    async with TcpProxy(address) as proxy:
        url = ledger_database.url.replace(address, proxy.address)
        async with run_replica(url, alive=1) as replica:
            await replica.call(Lane.READ)
            with capture_logs() as logs:
                proxy.passing.clear()
                began = time.monotonic()
                await replica.call(Lane.READ)
                assert time.monotonic() - began < 2.5
                began = time.monotonic()
                for _ in range(5):
                    await replica.call(Lane.FORWARD)
                assert time.monotonic() - began < 1
                proxy.passing.set()
                await wait_until(lambda: logged(logs, "fleet.tokens_available"))
            await replica.call(Lane.READ)
            assert replica.counts.draws["granted"] == 2


async def test_an_urgent_call_does_not_wait_for_the_draw_of_others(replicas: list[Replica]) -> None:
    """It comes back from a refusal of others at once."""
    replica = replicas[0]
    replica.poll(pollers=50)
    await wait_until(lambda: len(replica.called) >= SIZE - RESERVE + 2)
    for _ in range(5):
        began = time.monotonic()
        await replica.call(Lane.FORWARD)
        assert time.monotonic() - began < 0.2
