"""Measures the ledger's commits over a network: a batch in two round trips ÷ a statement at a time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from bench.processes import ACCOUNT, REGION
from eksgateway.blocking import run_blocking
from eksgateway.clock import SystemClock
from eksgateway.ledger.codec import encode
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.model import (
    Caller,
    CancelRequest,
    ClusterFacts,
    ClusterRef,
    Decision,
    Intent,
    Justification,
    Update,
    UpdateRef,
)
from eksgateway.settings import LedgerSettings

CALLERS: Final = 64  # at once
INTENTS: Final = 1024
_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)


async def measure_units_of_work(url: str) -> float:
    """Intents per second through the ledger, by CALLERS at once."""
    ledger = await open_ledger(LedgerSettings(url=url), SystemClock())
    waiting = iter(range(INTENTS))

    async def commit() -> None:
        for number in waiting:
            await ledger.commit_intent(_make_intent(number))

    try:
        started = time.monotonic()
        await asyncio.gather(*(commit() for _ in range(CALLERS)))
        return INTENTS / (time.monotonic() - started)
    finally:
        await ledger.close()


async def measure_statements(url: str) -> float:
    """Intents per second where each is read and written by its own statements, CALLERS in a transaction."""
    return await run_blocking(_run_statements, url)


def _run_statements(url: str) -> float:
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        connection.execute("CREATE TABLE events (seq bigint PRIMARY KEY, id text, body text)")
        connection.execute("CREATE TABLE cancellations (id text PRIMARY KEY, request_id text, record text)")
        connection.execute("CREATE UNIQUE INDEX ON cancellations (request_id)")
        started = time.monotonic()
        for first in range(0, INTENTS, CALLERS):
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(1)")
                row = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
                assert row is not None
                for number in range(first, first + CALLERS):
                    _write(connection, row[0] + number - first + 1, _make_intent(number))
        return INTENTS / (time.monotonic() - started)


def _write(connection: psycopg.Connection[Any], seq: int, intent: Intent) -> None:
    key, body = intent.cancellation_id, encode(intent)
    connection.execute("SELECT record FROM cancellations WHERE request_id = %s", [intent.request_id])
    connection.execute("SELECT record FROM cancellations WHERE id = %s", [key])
    connection.execute("INSERT INTO events VALUES (%s, %s, %s)", [seq, key, body])
    connection.execute("INSERT INTO cancellations VALUES (%s, %s, %s)", [key, intent.request_id, body])


def _make_intent(number: int) -> Intent:
    cluster = ClusterRef(ACCOUNT, REGION, "prod")
    arn = f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/prod"
    return Intent(
        cancellation_id=f"cancellation-{number}",
        request_id=f"request-{number}",
        caller=Caller("user", "bench", "https://issuer.example", ("bench:oncall",), None, _TIME),
        request=CancelRequest(UpdateRef(cluster, f"update-{number}"), Justification("bench", "")),
        update=Update(f"update-{number}", "InProgress", "VersionRollback"),
        cluster=ClusterFacts(arn, "prod", "ACTIVE", "1.33"),
        decision=Decision(f"decision-{number}", True, ("bench",), (), "1"),
        token=f"token-{number}",
        time=_TIME,
    )
