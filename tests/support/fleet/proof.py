"""Collects the history of a fleet and proves it."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import psycopg

from support.fleet.clients import Clients
from support.fleet.history import Bounds, History
from support.fleet.replicas import QUICK_BOUNDS, Fleet
from support.fleet.validator import find_violations
from support.processes import eksgateway_command, run_program

# Log events of bugs, whatever the faults.
_BUGS: Final = {"rpc.unexpected", "watch.unexpected", "watch.poller_failed", "cancellation.unexpected"}
_EVENT: Final = re.compile(r"[a-z]+\.[a-z_]+")  # libraries log sentences


async def prove(fleet: Fleet, clients: Clients, bounds: Bounds = QUICK_BOUNDS) -> None:
    """Fails unless the validator and `eksgateway ledger verify` find nothing, and no replica logged a bug.

    Waits until the cancellations have settled; the validator finds one that does not.
    """
    await wait_until_settled(fleet, bounds.look + 10)
    violations = find_violations(collect(fleet, clients, bounds))
    assert not violations, "\n".join(violations)
    lines = [line for replica in fleet.replicas for line in replica.lines]
    assert [line for line in lines if line["event"] in _BUGS or not _EVENT.fullmatch(line["event"])] == []
    command = eksgateway_command("ledger", "verify", "--url", fleet.database.owner_url)
    async with run_program(*command) as program:
        assert await program.end() == 0, program.out + program.err


def collect(fleet: Fleet, clients: Clients, bounds: Bounds = QUICK_BOUNDS) -> History:
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


async def wait_until_settled(fleet: Fleet, seconds: float) -> bool:
    """Whether every cancellation settles in this time."""
    ends = asyncio.get_running_loop().time() + seconds
    while left := await asyncio.to_thread(count_pending, fleet):
        if asyncio.get_running_loop().time() > ends:
            break
        await asyncio.sleep(0.1)
    return not left


def count_pending(fleet: Fleet) -> int:
    with psycopg.connect(fleet.database.superuser_url) as connection:
        row = connection.execute("SELECT count(*) FROM eksgateway.cancellations WHERE pending").fetchone()
    assert row is not None
    return int(row[0])
