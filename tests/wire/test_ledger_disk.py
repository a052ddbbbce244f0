"""The ledger on real disks: a read-only root, copies, links, removed files."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2

from eksgateway.ledger.verify import verify
from eksgateway.v1 import cancellation_pb2 as cpb
from support.gateway_process import AWS, GatewayFolder, GatewayProcess, fail_to_start, run_gateway_process
from support.namespaces import read_only_root
from support.processes import eksgateway_command, run_program
from support.simulator import SimulatedEks
from support.wire import PRODUCTION, expect_refusal, get_cancellation, wait_for_phase

UNAVAILABLE = ("UNAVAILABLE", "LEDGER_UNAVAILABLE")
SERVING = health_pb2.HealthCheckResponse.SERVING


async def ledger_command(*arguments: str) -> tuple[int, str]:
    async with run_program(*eksgateway_command("ledger", *arguments)) as running:
        return await running.end(), running.out + running.err


async def cancel_many(served: GatewayProcess, eks: SimulatedEks, count: int) -> list[str]:
    """Cancel so many updates; returns the ids of the cancellations."""
    found = []
    for number in range(count):
        update_id = eks.rollback(f"prod-{number}", tags=PRODUCTION)
        found.append((await served.cancel(f"prod-{number}", update_id)).cancellation_id)
    return found


@pytest.fixture
def place(tmp_path: Path, eks: SimulatedEks) -> GatewayFolder:
    return GatewayFolder(tmp_path, eks.url)


async def test_read_only_root_records_many_cancels_of_one_update(tmp_path: Path, eks: SimulatedEks) -> None:
    """SQLite finds no folder for a temporary file."""
    volume = tmp_path / "volume"
    volume.mkdir()
    place = GatewayFolder(tmp_path, eks.url, ledger={"path": str(volume / "ledger.db"), "keep_denials": 200})
    update_id = eks.rollback("prod-1", tags=PRODUCTION | {f"tag-{n}": "x" * 200 for n in range(40)})
    async with run_gateway_process(place, *read_only_root(volume)) as served:
        await served.wait_for_readiness()
        asked = [f"request-{n}" for n in range(10)]
        answers = [await served.cancel("prod-1", update_id, request_id=name) for name in asked]
        assert len({each.cancellation_id for each in answers}) == 10
        for _ in range(20):  # a connection has a bounded number of calls at a time
            denied = (served.cancel("prod-1", update_id, served.viewer, reason="x" * 400) for _ in range(20))
            for each in await asyncio.gather(*denied, return_exceptions=True):
                assert isinstance(each, grpc.aio.AioRpcError)
                assert each.code() is grpc.StatusCode.PERMISSION_DENIED
        eks.advance(121)
        for name in asked:
            await wait_for_phase(served, cpb.CANCELLATION_PHASE_CANCELLED, request_id=name)
        await served.wait_for_readiness()
        assert await served.end() == 0
        assert [line["event"] for line in served.lines if line["level"] == "error"] == []
    report = verify(volume / "ledger.db")
    assert (report.broken, report.cancellations) == (None, 10)
    assert _query(volume / "ledger.db", "SELECT count(*) FROM decisions")[0][0] <= 220
    assert sorted(each.name for each in volume.iterdir()) == ["ledger.db", "ledger.db.head", "ledger.db.lock"]


async def test_backup_of_a_running_gateway_has_every_cancellation(
    place: GatewayFolder, eks: SimulatedEks
) -> None:
    """A copy by cp is refused by `verify`, by `backup` and at start."""
    copied, backup = place.path / "copied.db", place.path / "backup.db"
    async with run_gateway_process(place) as served:
        ids = await cancel_many(served, eks, 14)
        shutil.copy(place.ledger, copied)
        code, printed = await ledger_command("backup", str(place.ledger), str(backup))
        assert (code, "28 events, 14 cancellations" in printed) == (0, True), printed
        served.process.kill()
    code, printed = await ledger_command("verify", str(copied))
    assert code == 1
    assert "Incomplete: it lacks its -wal file" in printed
    assert "eksgateway ledger backup" in printed
    code, printed = await ledger_command("backup", str(copied), str(place.path / "other.db"))
    assert (code, "lacks its -wal file" in printed) == (1, True), printed

    for each in place.path.glob("ledger.db*"):
        each.unlink()
    shutil.copy(copied, place.ledger)
    assert "ledger.db: it lacks its -wal file" in await fail_to_start(place.config)
    for each in place.path.glob("ledger.db*"):
        each.unlink()
    shutil.copy(backup, place.ledger)
    async with run_gateway_process(place) as served:
        for cancellation_id in ids:
            assert (
                await get_cancellation(served, cancellation_id=cancellation_id)
            ).cancellation_id == cancellation_id
        assert await served.end() == 0


async def test_removed_wal_stops_the_gateway_and_loses_nothing(
    place: GatewayFolder, eks: SimulatedEks
) -> None:
    """Not ready, nothing is sent; SIGTERM writes the file's content."""
    async with run_gateway_process(place) as served:
        ids = await cancel_many(served, eks, 3)
        await served.wait_for_readiness()
        place.path.joinpath("ledger.db-wal").unlink()
        update_id = eks.rollback("prod-9", tags=PRODUCTION)
        assert (await expect_refusal(served.cancel("prod-9", update_id))).status_and_reason == UNAVAILABLE
        await served.wait_for_readiness(ready=False)
        assert len(eks.calls("CancelUpdate")) == 3
        assert await served.end() == 0
        reasons = [line["reason"] for line in served.lines if line["event"] == "ledger.write_failed"]
        assert "ledger.db-wal: the file was removed or replaced" in reasons[0]
    async with run_gateway_process(place) as served:
        for cancellation_id in ids:
            await get_cancellation(served, cancellation_id=cancellation_id)
        assert await served.end() == 0


@pytest.mark.parametrize("kept", [0.0, 0.5])
async def test_cut_wal_stops_the_gateway_and_the_next_start(
    place: GatewayFolder, eks: SimulatedEks, kept: float
) -> None:
    """The start names the missing events."""
    wal = place.path / "ledger.db-wal"
    async with run_gateway_process(place) as served:
        await cancel_many(served, eks, 3)
        await served.wait_for_readiness()
        os.truncate(wal, int(wal.stat().st_size * kept))
        update_id = eks.rollback("prod-9", tags=PRODUCTION)
        assert (await expect_refusal(served.cancel("prod-9", update_id))).status_and_reason == UNAVAILABLE
        await served.wait_for_readiness(ready=False)
        assert len(eks.calls("CancelUpdate")) == 3
        assert await served.end() == 0
        reasons = [line["reason"] for line in served.lines if line["event"] == "ledger.write_failed"]
        assert "ledger.db-wal: the file was cut" in reasons[0]
    assert "its newest events are missing" in await fail_to_start(place.config)


async def test_second_gateway_through_another_mount_is_refused(
    place: GatewayFolder, eks: SimulatedEks
) -> None:
    """Also through another name, without the lock file."""
    async with run_gateway_process(place) as first:
        (place.path / "ledger.db.lock").unlink()
        (place.path / "other.db").hardlink_to(place.ledger)
        settings = yaml.safe_load(place.config.read_text())
        settings["ledger"]["path"] = str(place.path / "other.db")
        place.config.write_text(yaml.safe_dump(settings))
        command = (*read_only_root(place.path), *eksgateway_command("serve", "--config", str(place.config)))
        async with run_program(*command, env=AWS) as second:
            assert await second.end() == 1
            assert "another gateway process uses this ledger" in second.err
        await cancel_many(first, eks, 1)
        assert await first.end() == 0
    assert verify(place.ledger).events == 2


async def test_verify_and_list_work_on_a_read_only_mount(place: GatewayFolder, eks: SimulatedEks) -> None:
    """While a gateway writes, and after a kill without the -shm file."""

    async def read() -> None:
        for command in ("verify", "list"):
            async with run_program(
                *read_only_root(temporary),
                *eksgateway_command("ledger", command, str(place.ledger)),
                env={"TMPDIR": str(temporary)},
            ) as running:
                assert await running.end() == 0, running.err
                if command == "verify":
                    assert "Sound: 6 events, 3 cancellations." in running.out
                else:
                    assert len(running.out.splitlines()) == 6

    temporary = place.path / "temporary"
    temporary.mkdir()
    async with run_gateway_process(place) as served:
        await cancel_many(served, eks, 3)
        await read()
        served.process.kill()
        await served.program.end()
    (place.path / "ledger.db-shm").unlink()
    await read()
    assert list(temporary.iterdir()) == []


def _query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    other = sqlite3.connect(path)
    try:
        return other.execute(sql).fetchall()
    finally:
        other.close()
