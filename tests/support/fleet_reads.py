"""Replicas in one process: shared reads and watches, over one PostgreSQL and one scripted EKS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from uuid import UUID, uuid4

from eksgateway.clock import Clock, Deadline, SystemClock
from eksgateway.eks.budget import Budget
from eksgateway.eks.shared_reads import SharedReads
from eksgateway.fleet.budget_table import BudgetTable
from eksgateway.fleet.connections import FleetConnection
from eksgateway.fleet.counts import FleetCounts
from eksgateway.fleet.look_table import LookTable
from eksgateway.fleet.looks import FleetLooks
from eksgateway.fleet.notices import ListenSettings, Notices
from eksgateway.fleet.tokens import FleetTokens
from eksgateway.model import Caller, ClusterFacts, ClusterRef, Target, Update, UpdateRef
from eksgateway.settings import WatchSettings
from eksgateway.watch.watches import Watches
from support.watching import FakeRecord

SCHEMA = "eksgateway"
TARGET = Target("111122223333", "us-east-1")


class CountingEks:
    """Implements ``eksgateway.eks.protocol.Eks``, reads of clusters and updates only.

    Answers ``answer_s`` after the call with the state of its begin; while ``open`` is cleared, later.
    """

    def __init__(self, answer_s: float = 0.01) -> None:
        self.answer_s = answer_s
        self.calls: list[tuple[str, float]] = []  # resource, and when the call began
        self.running: dict[str, int] = {}
        self.most_at_once = 0  # calls for one resource
        self.statuses: dict[str, str] = {}  # of updates, by name
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    def times(self, ref: ClusterRef | UpdateRef) -> list[float]:
        return [time for name, time in self.calls if name == str(ref)]

    async def _answer(self, name: str) -> str:
        self.calls.append((name, asyncio.get_running_loop().time()))
        status, error = self.statuses.get(name, "InProgress"), self.error
        self.running[name] = self.running.get(name, 0) + 1
        self.most_at_once = max(self.most_at_once, self.running[name])
        try:
            await asyncio.sleep(self.answer_s)
            await self.open.wait()
        finally:
            self.running[name] -= 1
        if error is not None:
            raise error
        return status

    async def describe_cluster(
        self, cluster: ClusterRef, *, on_behalf_of: Caller | None = None
    ) -> ClusterFacts:
        assert on_behalf_of is None
        status = await self._answer(str(cluster))
        return ClusterFacts(f"arn:{cluster}", cluster.name, status, "1.34", {"team": "a"})

    async def describe_update(self, ref: UpdateRef, *, on_behalf_of: Caller | None = None) -> Update:
        assert on_behalf_of is None
        return Update(ref.update_id, await self._answer(str(ref)), "VersionUpdate")

    def serves(self, cluster: ClusterRef) -> bool:
        raise AssertionError(cluster)

    async def list_clusters(
        self, target: Target, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        raise AssertionError(target, page_size, page_token)

    async def list_updates(
        self, cluster: ClusterRef, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        raise AssertionError(cluster, page_size, page_token)

    async def cancel_update(
        self, ref: UpdateRef, *, on_behalf_of: Caller, token: str, send_before: Deadline
    ) -> Update:
        raise AssertionError(ref, on_behalf_of, token, send_before)

    async def close(self) -> None:
        pass


@dataclass
class ReadingReplica:
    """One replica. ``record`` stands in for the ledger."""

    url: str
    eks: CountingEks
    claim_s: float
    settings: WatchSettings
    replicas: int = 1
    clock: Clock = field(default_factory=SystemClock)
    id: UUID = field(default_factory=uuid4)
    calls_per_s: float = 1000
    counts: FleetCounts = field(default_factory=FleetCounts)
    record: FakeRecord = field(default_factory=FakeRecord)
    reads: SharedReads = field(init=False)
    watches: Watches = field(init=False)
    looks: FleetLooks = field(init=False)
    notices: Notices = field(init=False)

    @asynccontextmanager
    async def run(self, seed: int) -> AsyncIterator[ReadingReplica]:
        connection, sender = FleetConnection(self.url), FleetConnection(self.url)
        self.notices = Notices(ListenSettings(self.url, SCHEMA), sender, self.clock, Random(seed))
        table = LookTable(connection, SCHEMA, self.id, self.claim_s, self.clock)
        self.looks = FleetLooks(table, self.notices, self.clock, self.counts.looks)
        draws = BudgetTable(sender, SCHEMA)
        tokens = FleetTokens(draws, self.calls_per_s, lambda: self.replicas, self.counts, self.clock)
        budget = Budget(self.calls_per_s, self.clock, tokens=tokens.of)
        self.reads = SharedReads(self.eks, budget, self.clock, looks=self.looks.by_kind)
        self.watches = Watches(self.reads, self.record, self.clock, self.settings, Random(seed))
        await tokens.open([TARGET])
        await self.notices.open()
        try:
            yield self
        finally:
            await self.watches.close()
            await budget.close()
            await tokens.close()
            await self.looks.close()
            await self.notices.close()
            await asyncio.gather(connection.close(), sender.close())


@asynccontextmanager
async def run_replicas(
    url: str,
    eks: CountingEks,
    *,
    count: int = 3,
    claim_s: float = 8,
    settings: WatchSettings | None = None,
    calls_per_s: float = 1000,
    clock: Clock | None = None,
) -> AsyncIterator[list[ReadingReplica]]:
    settings = settings or WatchSettings()
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                ReadingReplica(
                    url, eks, claim_s, settings, count, clock or SystemClock(), calls_per_s=calls_per_s
                ).run(seed)
            )
            for seed in range(count)
        ]
