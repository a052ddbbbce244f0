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
from typing import Final

import pytest

from support.fleet.chaos import Chaos
from support.fleet.clients import Clients
from support.fleet.history import NO_ANSWER, OK
from support.fleet.load import Load
from support.fleet.proof import prove
from support.fleet.replicas import Fleet, run_fleet

FAULTS: Final = int(os.environ.get("SOAK_FAULTS", "30"))
SEED: Final = int(os.environ.get("SOAK_SEED") or Random().randrange(1_000_000))


@pytest.mark.timeout(200 + 20 * FAULTS)
async def test_fleet_keeps_the_promise_under_random_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line of statistics has the seed, with which the same faults come again."""
    began, random, clients = monotonic(), Random(SEED), Clients()
    async with run_fleet(tmp_path) as fleet:
        chaos, load = Chaos(fleet, Random(SEED + 1), FAULTS), Load(fleet, clients, random)
        try:
            loading = asyncio.create_task(load.run())
            await chaos.run()
            load.stop.set()
            await loading
        finally:
            with capsys.disabled():
                sys.stdout.write(f"\n{describe(fleet, clients, chaos, monotonic() - began)}\n")
        await prove(fleet, clients)


def describe(fleet: Fleet, clients: Clients, chaos: Chaos, seconds: float) -> str:
    """The line of statistics."""
    results = Counter(attempt.result for attempt in clients.attempts)
    unknown = results[NO_ANSWER] + results["OUTCOME_UNKNOWN"]
    refused = len(clients.attempts) - results[OK] - unknown
    streams = sum(watcher.streams for watcher in clients.watchers)
    kinds = ", ".join(f"{name} {number}" for name, number in sorted(chaos.made.items()))
    answers = ", ".join(f"{name} {number}" for name, number in results.most_common())
    return (
        f"soak: {sum(chaos.made.values())} faults ({kinds}), {len(clients.attempts)} cancels ({answers})"
        f", {fleet.eks.count('CancelUpdate')} sent, {len(fleet.eks.eks_calls)} EKS calls, {refused} refused,"
        f" {unknown} unknown, {streams} streams,"
        f" {streams - len(clients.watchers)} resumed, seed {SEED}, {seconds:.0f} s"
    )
