"""A replica's part in a fleet: how it is opened, counted and left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from eksgateway.clock import SystemClock
from eksgateway.errors import LedgerUnavailable, StartError
from eksgateway.fleet.connections import FleetUnavailable
from eksgateway.fleet.fleet import Fleet, open_fleet
from eksgateway.fleet.notices import LOOKS
from eksgateway.fleet.repeated_tasks import RepeatedTasks
from eksgateway.metrics import Metrics
from eksgateway.settings import EksSettings, LedgerSettings, Settings
from support.clock import FakeClock
from support.logs import capture_logs
from support.postgres import LedgerDatabase
from support.waiting import wait_until


def settings_for(url: str, listen_url: str | None = None) -> Settings:
    """Those that a fleet reads."""
    return Settings.model_construct(
        ledger=LedgerSettings.model_validate({"url": url, "listen_url": listen_url}),
        eks=EksSettings.model_validate({"targets": [{"account_id": "111122223333", "region": "us-east-1"}]}),
    )


@asynccontextmanager
async def join_fleet(url: str, listen_url: str | None = None) -> AsyncIterator[Fleet]:
    fleet = await open_fleet(settings_for(url, listen_url), "host:1", SystemClock())
    try:
        yield fleet
    finally:
        await fleet.close()


def count_connections(ledger_database: LedgerDatabase) -> int:
    with psycopg.connect(ledger_database.superuser_url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usename = 'eksgateway'",
            [ledger_database.name],
        ).fetchone()
        assert row is not None
        return int(row[0])


def count_rows(ledger_database: LedgerDatabase) -> int:
    with psycopg.connect(ledger_database.owner_url) as connection:
        row = connection.execute("SELECT count(*) FROM eksgateway.replicas").fetchone()
        assert row is not None
        return int(row[0])


async def test_replicas_hear_one_another_and_leave_nothing_behind(ledger_database: LedgerDatabase) -> None:
    heard: list[str] = []
    async with join_fleet(ledger_database.url) as one, join_fleet(ledger_database.url) as two:
        assert one.replicas.own.id != two.replicas.own.id
        assert two.replicas.alive == 2
        one.notices.subscribe(LOOKS, heard.append)
        notice = ("eksgateway_looks", "u:a")
        await two.look_connection.run(lambda other: other.execute("SELECT pg_notify(%s, %s)", notice))
        await wait_until(lambda: heard == ["u:a"])
    assert count_rows(ledger_database) == 0
    await wait_until(lambda: count_connections(ledger_database) == 0)


@pytest.mark.parametrize(
    ("listen_url", "error"),
    [
        ("postgresql://u:secret@127.0.0.1:1/db", "`ledger.listen_url` cannot be used .*Connection refused"),
        ("{url}?pasword=secret", "`ledger.listen_url` cannot be used .*URLs have no option pasword"),
        ("{server_url}", "`ledger.listen_url` leads to another database than `ledger.url`"),
    ],
)
async def test_a_start_with_a_wrong_listen_url_is_refused(
    ledger_database: LedgerDatabase, listen_url: str, error: str
) -> None:
    """Without its password, and nothing is written."""
    listen_url = listen_url.format(url=ledger_database.url, server_url=ledger_database.server_url)
    with pytest.raises(StartError, match=error) as raised:
        await open_fleet(settings_for(ledger_database.url, listen_url), "host:1", SystemClock())
    assert "secret" not in str(raised.value)
    assert count_rows(ledger_database) == 0
    await wait_until(lambda: count_connections(ledger_database) == 0)


async def test_a_listen_url_of_the_same_database_is_used(ledger_database: LedgerDatabase) -> None:
    async with join_fleet(ledger_database.url, f"{ledger_database.url}?application_name=direct") as fleet:
        await wait_until(lambda: fleet.notices.listening)


async def test_metrics_have_the_replicas_the_notices_looks_and_draws(ledger_database: LedgerDatabase) -> None:
    async with join_fleet(ledger_database.url) as fleet:
        metrics = Metrics()
        metrics.add_fleet(fleet)
        fleet.counts.looks["shared"] += 3
        fleet.counts.draws["granted"] += 2
        await wait_until(lambda: fleet.notices.listening)

        def value(name: str, **labels: str) -> float | None:
            return metrics.registry.get_sample_value(name, labels)

        assert value("eksgateway_fleet_replicas") == 1
        assert value("eksgateway_fleet_listening") == 1
        assert value("eksgateway_fleet_looks_total", result="shared") == 3
        assert value("eksgateway_fleet_looks_total", result="void") == 0
        assert value("eksgateway_fleet_draws_total", result="granted") == 2
        age = value("eksgateway_fleet_last_notice_age_seconds")
        assert age is not None
        assert 0 <= age < 60


@pytest.mark.parametrize("error", [FleetUnavailable("away"), LedgerUnavailable(), RuntimeError("a bug")])
async def test_repeated_work_goes_on_after_a_failure(error: Exception) -> None:
    clock, done = FakeClock(), 0

    async def work() -> None:
        nonlocal done
        done += 1
        if done == 2:
            raise error

    tasks = RepeatedTasks(clock)
    tasks.add("counting", 10, work)
    tasks.start()
    with capture_logs() as logs:
        await clock.advance(9.9)
        assert done == 0
        await clock.advance(25)
        assert done == 3
    assert [line["event"] for line in logs] == ["fleet.task_failed"]
    await tasks.close()
    await clock.advance(100)
    assert done == 3
    assert clock.sleepers == 0
