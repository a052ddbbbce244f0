"""Notices of a real PostgreSQL, over connections that are ended, cut, frozen and silent."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import psycopg
import pytest

from eksgateway.clock import SystemClock
from eksgateway.errors import StartError
from eksgateway.fleet.connections import FleetConnection
from eksgateway.fleet.notice_queue import NoticeQueue
from eksgateway.fleet.notices import LOOKS, ListenSettings, Notices
from eksgateway.ledger.cancellation_notices import CANCELLATIONS
from eksgateway.sandbox.postgres_server import PostgresServer
from support.clock import settle
from support.logs import capture_logs
from support.postgres import LedgerDatabase
from support.processes import frozen
from support.tcp_proxy import TcpProxy
from support.waiting import wait_until

SCHEMA = "eksgateway"


class Listener:
    """``heard`` has each notice; ``catch_ups`` counts."""

    def __init__(self, notices: Notices) -> None:
        self.notices = notices
        self.heard: list[tuple[str, str]] = []
        self.catch_ups = 0
        notices.subscribe(CANCELLATIONS, lambda payload: self.heard.append((CANCELLATIONS, payload)))
        notices.subscribe(LOOKS, lambda payload: self.heard.append((LOOKS, payload)), self.catch_up)

    def catch_up(self) -> None:
        self.catch_ups += 1

    async def hears(self, url: str, channel: str, payload: str) -> None:
        await notify(url, channel, payload)
        await wait_until(lambda: (channel, payload) in self.heard)


@asynccontextmanager
async def run_listener(
    listen_url: str, url: str, deadline_s: float = 1.0, check_s: float = 0.2
) -> AsyncIterator[Listener]:
    sender = FleetConnection(url)
    settings = ListenSettings(listen_url, SCHEMA, deadline_s, check_s)
    listener = Listener(Notices(settings, sender, SystemClock(), Random(1)))
    try:
        await listener.notices.open()
        yield listener
    finally:
        await listener.notices.close()
        await sender.close()


def through(proxy: TcpProxy, server: PostgresServer) -> str:
    return server.url().replace(f"127.0.0.1:{server.port}", proxy.address)


async def notify(url: str, channel: str, *payloads: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for payload in payloads:
            await connection.execute("SELECT pg_notify(%s, %s)", [f"{SCHEMA}_{channel}", payload])


async def end_listeners(url: str) -> int:
    """End the backends that listen; returns their number."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        ended = await connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            " OR query = 'SELECT 1'"
        )
        row = await ended.fetchone()
        assert row is not None
        return int(row[0])


async def test_subscribers_of_a_channel_hear_its_notices(server: PostgresServer) -> None:
    """Other channels and other schemas are not heard."""
    url = server.url()
    async with run_listener(url, url) as listener:
        await notify(url, LOOKS, "u:a")
        await notify(url, "other", "x")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("SELECT pg_notify('other_looks', 'x')")
        await listener.hears(url, CANCELLATIONS, "id-1")
        assert listener.heard == [(LOOKS, "u:a"), (CANCELLATIONS, "id-1")]
        assert listener.catch_ups == 0
        assert listener.notices.age_s < 60


async def test_notices_sent_before_the_first_statement_are_heard(server: PostgresServer) -> None:
    """Once ``open`` has returned, it listens."""
    url = server.url()
    async with run_listener(url, url) as listener:
        await listener.hears(url, LOOKS, "u:first")
        await wait_until(lambda: listener.notices.listening)


async def test_after_the_backend_is_ended_it_listens_again_and_catches_up(server: PostgresServer) -> None:
    url = server.url()
    with capture_logs() as logs:
        async with run_listener(url, url) as listener:
            await listener.hears(url, LOOKS, "u:before")
            assert await end_listeners(url) == 1
            await wait_until(lambda: listener.catch_ups)
            await listener.hears(url, LOOKS, "u:after")
    events = [line["event"] for line in logs]
    assert events == ["fleet.listener_lost", "fleet.listening"]


async def test_notices_of_the_time_without_a_listener_are_made_up_by_catching_up(
    server: PostgresServer,
) -> None:
    """LISTEN comes before the catching up: what changes meanwhile is heard, or read."""
    url = server.url()
    async with (
        TcpProxy(f"127.0.0.1:{server.port}") as proxy,
        run_listener(through(proxy, server), url) as listener,
    ):
        await listener.hears(url, LOOKS, "u:before")
        proxy.refusing = True
        proxy.cut()
        await wait_until(lambda: not listener.notices.listening)
        await notify(url, LOOKS, "u:lost")
        caught_up_listening: list[int] = []

        def see_listeners() -> None:
            with psycopg.connect(url) as connection:
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
                ).fetchone()
                assert row is not None
                caught_up_listening.append(row[0])

        listener.notices.subscribe(LOOKS, lambda _: None, see_listeners)
        proxy.refusing = False
        await wait_until(lambda: listener.catch_ups)
        await listener.hears(url, LOOKS, "u:after")
        assert (LOOKS, "u:lost") not in listener.heard
        assert caught_up_listening == [1]


async def test_a_silent_network_is_noticed_by_the_deadline(server: PostgresServer) -> None:
    url = server.url()
    async with (
        TcpProxy(f"127.0.0.1:{server.port}") as proxy,
        run_listener(through(proxy, server), url, deadline_s=0.5) as listener,
    ):
        await listener.hears(url, LOOKS, "u:before")
        proxy.passing.clear()
        began = time.monotonic()
        await wait_until(lambda: not listener.notices.listening)
        assert time.monotonic() - began < 5
        proxy.passing.set()
        await wait_until(lambda: listener.catch_ups)
        await listener.hears(url, LOOKS, "u:after")


async def test_a_frozen_postgresql_is_noticed_by_the_deadline(server: PostgresServer) -> None:
    url = server.url()
    async with run_listener(url, url, deadline_s=0.5) as listener:
        await wait_until(lambda: listener.notices.listening)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            rows = await connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query = 'SELECT 1'"
            )
            pids = [row[0] for row in await rows.fetchall()]
        assert len(pids) == 1
        with frozen(server.pid), frozen(pids[0]):
            await wait_until(lambda: not listener.notices.listening)
        await wait_until(lambda: listener.catch_ups)
        await listener.hears(url, LOOKS, "u:after")


async def test_after_a_restart_of_postgresql_it_listens_again(server: PostgresServer) -> None:
    with capture_logs() as logs:
        async with run_listener(server.url(), server.url()) as listener:
            server.stop(signal.SIGQUIT)
            await wait_until(lambda: not listener.notices.listening)
            server.start()
            await wait_until(lambda: listener.catch_ups)
            await listener.hears(server.url(), LOOKS, "u:after")
    assert [line["event"] for line in logs].count("fleet.listener_lost") == 1


async def test_a_listener_that_hears_nothing_is_logged_once(
    server: PostgresServer, ledger_database: LedgerDatabase
) -> None:
    """As behind a pooler, or when ``ledger.listen_url`` leads to another database. It goes on trying."""
    with capture_logs() as logs:
        async with (
            await psycopg.AsyncConnection.connect(server.url(), autocommit=True) as elsewhere,
            run_listener(ledger_database.url, server.url()) as listener,
        ):
            await elsewhere.execute(f'LISTEN "{SCHEMA}_probes"')
            assert len([each async for each in elsewhere.notifies(timeout=60, stop_after=3)]) == 3
            assert not listener.notices.listening
            await listener.hears(ledger_database.url, LOOKS, "u:a")
    deaf = [line for line in logs if line["event"] == "fleet.notices_not_heard"]
    assert len(deaf) == 1
    assert "ledger.listen_url" in deaf[0]["hint"]


async def test_an_unreachable_postgresql_refuses_the_start() -> None:
    url = "postgresql://u:s3cret@127.0.0.1:1/db"
    with pytest.raises(StartError, match="listen_url") as error:
        async with run_listener(url, url):
            pass
    assert "s3cret" not in str(error.value)


async def test_a_subscriber_that_fails_keeps_no_notice_from_others(server: PostgresServer) -> None:
    def fail(_: str) -> None:
        raise RuntimeError

    url = server.url()
    with capture_logs() as logs:
        async with run_listener(url, url) as listener:
            listener.notices.subscribe(CANCELLATIONS, fail)
            await listener.hears(url, CANCELLATIONS, "id-1")
            await listener.hears(url, CANCELLATIONS, "id-2")
    assert {line["event"] for line in logs} == {"fleet.notice_failed"}


async def test_close_over_a_silent_network_does_not_wait(server: PostgresServer) -> None:
    url = server.url()
    async with (
        TcpProxy(f"127.0.0.1:{server.port}") as proxy,
        run_listener(through(proxy, server), url, deadline_s=60) as listener,
    ):
        await wait_until(lambda: listener.notices.listening)
        proxy.passing.clear()
        await asyncio.sleep(0.5)  # so that it checks the connection
        began = time.monotonic()
        await listener.notices.close()
        assert time.monotonic() - began < 1


async def test_equal_notices_that_wait_are_delivered_once() -> None:
    delivered: list[tuple[str, str]] = []
    queue = NoticeQueue(lambda *notice: delivered.append(notice), lambda: None)
    for payload in "abab":
        queue.add(LOOKS, payload)
    await settle()
    queue.add(LOOKS, "a")
    await settle()
    assert delivered == [(LOOKS, "a"), (LOOKS, "b"), (LOOKS, "a")]


async def test_many_notices_let_the_event_loop_do_other_work() -> None:
    delivered: list[str] = []
    queue = NoticeQueue(lambda _, payload: delivered.append(payload), lambda: None)
    for number in range(1000):
        queue.add(LOOKS, str(number))
    counts = []
    while len(delivered) < 1000:
        await asyncio.sleep(0)
        counts.append(len(delivered))
    assert max(after - before for before, after in zip([0, *counts], counts, strict=False)) == 100


async def test_more_notices_than_fit_are_replaced_by_catching_up() -> None:
    """The queue takes bounded memory."""
    delivered: list[str] = []
    caught_up: list[bool] = []
    queue = NoticeQueue(lambda _, payload: delivered.append(payload), lambda: caught_up.append(True))
    for number in range(25_000):
        queue.add(LOOKS, str(number))
    await wait_until(lambda: "24999" in delivered)
    assert len(delivered) < 10_000
    assert caught_up == [True]
