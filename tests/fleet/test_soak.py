"""Random faults under a load of cancels and watches; the validator finds nothing.

`make soak FAULTS=300` makes more faults, `SEED=…` the faults of an earlier run.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Final

import psycopg
import pytest

from support.fleet.chaos import Chaos
from support.fleet.clients import Clients
from support.fleet.history import NO_ANSWER, OK, Bounds, History
from support.fleet.load import Load
from support.fleet.replicas import Fleet, run_fleet
from support.fleet.validator import find_violations
from support.processes import eksgateway_command, run_program

FAULTS: Final = int(os.environ.get("SOAK_FAULTS", "30"))
SEED: Final = int(os.environ.get("SOAK_SEED") or Random().randrange(1_000_000))

SETTINGS: Final[dict[str, Any]] = {
    "ledger": {"commit_timeout_s": 2},
    "eks": {
        "connect_timeout_s": 1,
        "read_timeout_s": 2,
        "cancel_read_timeout_s": 3,
        "decision_max_age_s": 3,
        "calls_per_s": 20,
    },
    "watch": {"poll_s": 0.5, "poll_min_s": 0.3, "follow_s": 1, "heartbeat_s": 1},
    "limits": {"call_timeout_s": 15},
}
BOUNDS: Final = Bounds(rate=20, size=40, claim=4, look=20, decision_max_age=3.5, slack=2)
# Log events of bugs, whatever the faults.
BUGS: Final = {"rpc.unexpected", "watch.unexpected", "watch.poller_failed", "cancellation.unexpected"}


@pytest.mark.timeout(200 + 20 * FAULTS)
async def test_fleet_keeps_the_promise_under_random_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line of statistics has the seed, with which the same faults come again."""
    began, random, clients = monotonic(), Random(SEED), Clients()
    async with run_fleet(tmp_path, 3, **SETTINGS) as fleet:
        chaos, load = Chaos(fleet, Random(SEED + 1), FAULTS), Load(fleet, clients, random)
        try:
            loading = asyncio.create_task(load.run())
            await chaos.run()
            load.stop.set()
            await loading
            await wait_until_settled(fleet)
        finally:
            with capsys.disabled():
                sys.stdout.write(f"\n{describe(fleet, clients, chaos, monotonic() - began)}\n")
        history = collect(fleet, clients)
        violations = find_violations(history)
        assert not violations, "\n".join([f"seed {SEED}", *violations])
        assert list_bugs(fleet) == []
        await verify(fleet)


def collect(fleet: Fleet, clients: Clients, bounds: Bounds = BOUNDS) -> History:
    return History(
        bounds,
        events=fleet.read_events(),
        calls=fleet.eks.eks_calls,
        attempts=tuple(clients.attempts),
        reads=tuple(clients.reads),
        lines=clients.lines,
        faults=tuple(fleet.faults),
        stays=fleet.eks.list_stays(),
    )


async def wait_until_settled(fleet: Fleet) -> None:
    """Returns early where a cancellation does not settle, which the validator finds."""
    deadline = monotonic() + BOUNDS.look + 10
    while await asyncio.to_thread(count_pending, fleet) and monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.1)


def count_pending(fleet: Fleet) -> int:
    with psycopg.connect(fleet.database.superuser_url) as connection:
        row = connection.execute("SELECT count(*) FROM eksgateway.cancellations WHERE pending").fetchone()
    assert row is not None
    return int(row[0])


def list_bugs(fleet: Fleet) -> list[Any]:
    return [line for replica in fleet.replicas for line in replica.lines if line["event"] in BUGS]


async def verify(fleet: Fleet) -> None:
    command = eksgateway_command("ledger", "verify", "--url", fleet.database.owner_url)
    async with run_program(*command) as program:
        assert await program.end() == 0, program.out + program.err


def describe(fleet: Fleet, clients: Clients, chaos: Chaos, seconds: float) -> str:
    """The line of statistics."""
    results = Counter(attempt.result for attempt in clients.attempts)
    refused = len(clients.attempts) - results[OK] - results[NO_ANSWER] - results["OUTCOME_UNKNOWN"]
    streams = sum(watcher.streams for watcher in clients.watchers)
    kinds = ", ".join(f"{name} {number}" for name, number in sorted(chaos.made.items()))
    return (
        f"soak: {sum(chaos.made.values())} faults ({kinds}), {len(clients.attempts)} cancels"
        f" ({fleet.eks.count('CancelUpdate')} sent), {len(fleet.eks.eks_calls)} EKS calls, {refused} refused,"
        f" {results['OUTCOME_UNKNOWN'] + results[NO_ANSWER]} unknown, {streams} streams,"
        f" {streams - len(clients.watchers)} resumed, seed {SEED}, {seconds:.0f} s"
    )
