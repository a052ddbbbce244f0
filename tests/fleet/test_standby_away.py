"""What replicas do while a synchronous standby is away: PostgreSQL answers, and commits wait."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import psycopg

from eksgateway.v1 import update_service_pb2 as pb
from support.fleet.replicas import Fleet, run_fleet
from support.wire import PRODUCTION, expect_refusal

COMMIT_S = 2
MARGIN_S = 3  # for a loaded machine


def set_standby(fleet: Fleet, name: str) -> None:
    """Let commits wait for a standby of this name; for none without a name."""
    with psycopg.connect(fleet.server.url(), autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        connection.execute("SELECT pg_reload_conf()")


def count_commits_under_way(fleet: Fleet) -> int:
    with psycopg.connect(fleet.database.superuser_url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        return int(row.fetchall()[0][0])


async def read_until(stream: Any, status: str) -> None:
    async with asyncio.timeout(60):
        while True:
            event: pb.WatchUpdateResponse = await stream.read()
            if event.update.status == status:
                return


async def test_cancels_are_refused_and_looks_go_on_without_a_standby(tmp_path: Path) -> None:
    """Readiness is off, and no connections pile up. Once it is back, the same cancel succeeds."""
    async with run_fleet(tmp_path, 2, ledger={"commit_timeout_s": COMMIT_S}) as fleet:
        update_id = fleet.eks.rollback("prod-1", tags=PRODUCTION)
        one, two = (replica.client for replica in fleet.replicas)
        streams = [each.watch("prod-1", update_id) for each in (one, two)]
        for stream in streams:
            await read_until(stream, "InProgress")
        set_standby(fleet, "absent")
        for _ in range(2):
            began = time.monotonic()
            refusal = await expect_refusal(one.cancel("prod-1", update_id, request_id="r-1"))
            assert refusal.reason == "LEDGER_UNAVAILABLE"
            assert time.monotonic() - began < COMMIT_S + MARGIN_S
        for each in (one, two):
            await each.wait_for_readiness(ready=False)
        for number in range(5):
            fleet.eks.set_update("prod-1", update_id, status=f"Status{number}")
            for stream in streams:
                await read_until(stream, f"Status{number}")
        fleet.eks.set_update("prod-1", update_id, status="InProgress")
        assert fleet.eks.count("CancelUpdate") == 0
        assert count_commits_under_way(fleet) <= 3  # the ledger's, and the row of each replica
        set_standby(fleet, "")
        for each in (one, two):
            await each.wait_for_readiness()
        await one.cancel("prod-1", update_id, request_id="r-1")
        assert fleet.eks.count("CancelUpdate") == 1
        for stream in streams:
            await read_until(stream, "Cancelling")
            stream.cancel()
