"""Measures several gateways over one PostgreSQL, from a wheel and on loopback."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import psycopg

from bench.cancels import check_sent_once, send_cancels, updates_to_cancel
from bench.commits import measure_statements, measure_units_of_work
from bench.processes import RARE_POLLS, GatewayProcess, poll_every, run_program, run_replicas
from bench.report import Ratio
from bench.start import measure_first_decision
from bench.watches import run_watches
from eksgateway.blocking import run_blocking
from eksgateway.sandbox.postgres_server import PostgresServer

REPLICAS: Final = 3
UPDATES: Final = 30
NETWORK_S: Final = 0.001
CANCELS: Final = 600


@asynccontextmanager
async def run_postgres() -> AsyncIterator[PostgresServer]:
    """With a migrated ledger in the database ``ledger``."""
    server = await run_blocking(PostgresServer)
    try:
        await run_blocking(server.start)
        await run_blocking(_create_database, server)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "eksgateway", "ledger", "migrate"),
            *("--url", server.url("ledger", "owner"), "--role", "gateway"),
            stdout=asyncio.subprocess.DEVNULL,
        )
        if await process.wait() != 0:
            raise RuntimeError("ledger migrate failed")
        yield server
    finally:
        await run_blocking(server.close)


def _create_database(server: PostgresServer) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for role in ("owner", "gateway"):
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{server.password}'")
        connection.execute("CREATE DATABASE ledger OWNER owner")


@asynccontextmanager
async def run_network(delay_s: float = 0) -> AsyncIterator[Callable[[str], str]]:
    """A database whose answers take ``delay_s`` longer. Yields a function from a role to its URL."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(run_postgres())
        host = address = f"127.0.0.1:{server.port}"
        if delay_s:
            proxy = run_program("bench.delay_proxy", host, str(delay_s))
            _, address = await stack.enter_async_context(proxy)
        yield lambda role: server.url("ledger", role).replace(host, address)


@asynccontextmanager
async def run_fleet(
    count: int, *, delay_s: float = 0, **sections: Any
) -> AsyncIterator[list[GatewayProcess]]:
    """Replicas over a new database."""
    async with (
        run_network(delay_s) as url,
        run_replicas(count, ledger={"url": url("gateway")}, **sections) as all_,
    ):
        yield all_


# -- EKS calls of 3 replicas ÷ 1 -------------------------------------------------------------------


async def measure_calls() -> float:
    """Calls in 20 s for 30 updates that are watched three times: at one replica, or at three."""
    counts = []
    for replicas in (1, REPLICAS):
        async with run_fleet(replicas, watch=poll_every(1)) as gateways, AsyncExitStack() as stack:
            await _watch_everywhere(stack, gateways, REPLICAS // replicas)
            await asyncio.sleep(2)
            await gateways[0].control("DELETE", "calls")
            await asyncio.sleep(20)
            counts.append(await gateways[0].calls())
    return counts[1] / counts[0]


async def _watch_everywhere(
    stack: AsyncExitStack, gateways: list[GatewayProcess], watchers: int
) -> dict[tuple[str, str], list[list[Any]]]:
    """Each update's streams by replica, after their first message."""
    streams: dict[tuple[str, str], list[list[Any]]] = defaultdict(list)
    for number in range(UPDATES):
        name = f"prod-{number}"
        update_id = await gateways[0].rollback(name)
        for gateway in gateways:
            watches = await stack.enter_async_context(run_watches(gateway, name, update_id))
            await watches.open_and_read(watchers)
            streams[name, update_id].append(watches.all)
    return streams


# -- A change at the last replica after the first ------------------------------------------------


async def measure_fanout() -> float:
    """p99 in seconds, over 30 updates that change six times each."""
    delays: list[float] = []
    async with run_fleet(REPLICAS, watch=poll_every(1)) as gateways, AsyncExitStack() as stack:
        streams = await _watch_everywhere(stack, gateways, 1)
        for number in range(6):
            status = f"Status{number}"
            reads = []
            for (name, update_id), by_replica in streams.items():
                await gateways[0].control("POST", "updates", cluster=name, update_id=update_id, status=status)
                reads.append(asyncio.gather(*(_time_of(each[0], status) for each in by_replica)))
            async with asyncio.timeout(30):
                delays += [max(times) - min(times) for times in await asyncio.gather(*reads)]
    return statistics.quantiles(delays, n=100)[98]


async def _time_of(stream: Any, status: str) -> float:
    while (await stream.read()).update.status != status:
        pass
    return time.monotonic()


# -- A replica is killed ---------------------------------------------------------------------------


async def measure_kill() -> float:
    """Seconds from the kill until every update was looked at again; a look is due each second."""
    async with run_fleet(REPLICAS, watch=poll_every(1)) as gateways, AsyncExitStack() as stack:
        streams = await _watch_everywhere(stack, gateways, 1)
        await asyncio.sleep(3)
        gateways[-1].process.kill()
        await gateways[0].control("DELETE", "calls")
        killed = time.monotonic()
        async with asyncio.timeout(60):
            while True:
                calls = (await gateways[0].control("GET", "calls"))["calls"]
                looked = {each["update_id"] for each in calls if each["operation"] == "DescribeUpdate"}
                if looked >= {update_id for _, update_id in streams}:
                    return time.monotonic() - killed
                await asyncio.sleep(0.05)


# -- Commits and cancels over a network of 1 ms ------------------------------------------------------


async def measure_commits() -> float:
    """Intents per second, batched as the ledger does it ÷ by a statement at a time."""
    async with run_network(NETWORK_S) as url:
        return await measure_units_of_work(url("gateway")) / await measure_statements(url("owner"))


async def measure_cancels() -> float:
    """Each replica gets its share of the calls. On few cores the replicas compete for them."""
    rates = []
    for replicas in (1, REPLICAS):
        async with (
            run_fleet(replicas, delay_s=NETWORK_S, watch=RARE_POLLS) as gateways,
            AsyncExitStack() as stack,
        ):
            updates = await updates_to_cancel(gateways[0], "fleet", CANCELS)
            channels = [await stack.enter_async_context(gateway.channel()) for gateway in gateways]
            credentials = gateways[0].credentials("oncall", "oncall")
            rates.append(CANCELS / await send_cancels(channels, updates, credentials))
            await check_sent_once(gateways[0], updates)
    return rates[1] / rates[0]


# -- Start -----------------------------------------------------------------------------------------


async def measure_start() -> float:
    """From the start of the process to its first decision; each gateway has started before."""
    async with run_network() as url:
        over_postgres = await measure_first_decision(ledger={"url": url("gateway")})
    return over_postgres / await measure_first_decision()


RATIOS: Final = (
    Ratio("fleet_calls", "EKS calls, 3 replicas ÷ 1", "at most", 1.05, 3, measure_calls),
    Ratio(
        "fleet_fanout",
        "a change at the last replica after the first: p99 in s",
        "at most",
        0.25,
        3,
        measure_fanout,
    ),
    Ratio("fleet_kill", "kill -9 of a replica to the last next look, in s", "at most", 10, 3, measure_kill),
    Ratio(
        "fleet_commits",
        "intents/s at 1 ms to the database ÷ a statement at a time",
        "at least",
        3,
        3,
        measure_commits,
    ),
    Ratio("fleet_cancels", "CancelUpdate/s at 1 ms, 3 replicas ÷ 1", "at least", 1, 3, measure_cancels),
    Ratio("fleet_start", "start over PostgreSQL ÷ start over SQLite", "at most", 1.3, 5, measure_start),
)
