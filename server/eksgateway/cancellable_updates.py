"""Finds the updates that could be cancelled now, in all targets: a page at a time, in one order.

Clusters and updates that the caller may not see are left out. Targets that could not be read are reported.
Only EKS decides whether it accepts a cancel.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from eksgateway import cancellability
from eksgateway.clock import Clock
from eksgateway.decisions import Decisions
from eksgateway.eks.arn import verify_arn
from eksgateway.eks.shared_reads import SharedReads
from eksgateway.errors import (
    CALL_TIMED_OUT,
    Denied,
    EksError,
    EksNotFound,
    EksRefused,
    EksUnavailable,
    GatewayError,
    Overloaded,
    TargetMismatch,
)
from eksgateway.logs import Log
from eksgateway.model import Action, ClusterRef, Target, Update, UpdateRef
from eksgateway.policy.question import Question

T = TypeVar("T")

log = Log(__name__)

_MAX_STEPS: Final = 200  # clusters and updates read for one page
_READ_ERRORS: Final = (EksError, Overloaded, TargetMismatch)


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A position in the order of account, region, cluster and update. The page continues behind it.

    It is part of page tokens, so ``update`` is a digest: the caller may not be allowed to know the id.
    """

    account_id: str = ""
    region: str = ""
    cluster: str = ""
    update: str = ""

    def __str__(self) -> str:
        return f"{self.account_id}/{self.region}/{self.cluster}/{self.update}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The reverse of ``str``. Any text is valid, because its names are only compared."""
        return cls(*text.split("/", 3))

    def within(self, target: Target) -> Cursor:
        """This position, or the start of the target if that comes later."""
        return max(self, Cursor(target.account_id, target.region))


@dataclass(frozen=True, slots=True)
class CancellableUpdate:
    """An update that could be cancelled now. ``explanation`` is the advice's."""

    ref: UpdateRef
    update: Update
    explanation: str


@dataclass(frozen=True, slots=True)
class CancellablePage:
    """``failures`` holds the first error of each target that was not read completely.

    ``next_start`` is None after the last page.
    """

    updates: tuple[CancellableUpdate, ...]
    failures: dict[Target, GatewayError]
    next_start: Cursor | None


class _Scan:
    """One page in progress, and its bounds. Each page makes at least one step."""

    def __init__(self, size: int, clock: Clock, call_timeout: float) -> None:
        self.updates: list[CancellableUpdate] = []
        self.failures: dict[Target, GatewayError] = {}
        self._size = size
        self._clock = clock
        self._steps = 0
        self._last_read_start = clock.monotonic() + call_timeout / 3
        self._last_read_end = clock.monotonic() + call_timeout * 2 / 3

    @property
    def is_complete(self) -> bool:
        if len(self.updates) >= self._size or self._steps >= _MAX_STEPS:
            return True
        return self._steps > 0 and self._clock.monotonic() >= self._last_read_start

    def count_step(self) -> None:
        """Count a cluster, an update or a failure."""
        self._steps += 1

    def add_failure(self, target: Target, error: GatewayError) -> None:
        self.count_step()
        if target not in self.failures:
            self.failures[target] = error
            where = {"account": target.account_id, "region": target.region}
            log.warning("cancellable_updates.failed", **where, reason=error.reason, detail=error.detail)

    async def read(self, reading: Awaitable[T]) -> T:
        """The result of a read. Raises EksUnavailable if it takes too long for this page."""
        try:
            async with asyncio.timeout(self._last_read_end - self._clock.monotonic()):
                return await reading
        except TimeoutError:
            raise EksUnavailable(CALL_TIMED_OUT) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancellableUpdates:
    """Reads EKS only through ``SharedReads``, one call at a time. Facts are at most ``max_age`` seconds old.

    ``call_timeout`` is the time of the whole call. A page takes at most two thirds of it.
    """

    decisions: Decisions
    reads: SharedReads
    targets: Sequence[Target]
    clock: Clock
    max_age: float
    call_timeout: float

    async def find_listable(self, question: Question) -> list[Target]:
        """The targets in which the caller of ``question`` (may I list?) may list any cluster.

        The question's cluster is ignored. Raises Denied if there is none, and what ``Decisions.ask`` raises.
        """
        listable: list[Target] = []
        denials: list[Denied] = []
        for target in self.targets:
            anywhere = ClusterRef(target.account_id, target.region, "")
            try:
                await self.decisions.require(replace(question, cluster=anywhere, any_cluster=True))
                listable.append(target)
            except Denied as denied:
                denials.append(denied)
        if denials and not listable:
            raise denials[0]
        return listable

    async def find_page(
        self, question: Question, targets: list[Target], size: int, start: Cursor
    ) -> CancellablePage:
        """The updates that the caller may see in ``targets`` (from ``find_listable``), after ``start``."""
        scan = _Scan(size, self.clock, self.call_timeout)
        next_start = None
        for target in sorted(targets, key=lambda target: (target.account_id, target.region)):
            if (target.account_id, target.region) < (start.account_id, start.region):
                continue
            try:
                next_start = await self._scan_target(scan, question, target, start.within(target))
            except _READ_ERRORS as error:
                scan.add_failure(target, error)
            if next_start:
                break
        return CancellablePage(tuple(scan.updates), scan.failures, next_start)

    async def _scan_target(
        self, scan: _Scan, question: Question, target: Target, start: Cursor
    ) -> Cursor | None:
        """Scan the clusters of a target. Returns where the next page starts, None at the target's end."""
        if scan.is_complete:
            return start
        names = await scan.read(self.reads.cluster_names(target, self.max_age, question.caller.id))
        for name in sorted(names):
            if name < start.cluster:
                continue
            here = replace(question, cluster=ClusterRef(target.account_id, target.region, name))
            if not await self.decisions.allows(here):
                continue  # never a next start, or the page token would reveal the cluster
            cursor = max(start, Cursor(target.account_id, target.region, name))
            if scan.is_complete:
                return cursor
            try:
                next_start = await self._scan_cluster(scan, here, cursor)
            except EksNotFound:  # deleted after it was listed
                continue
            except EksRefused as error:  # other clusters of the target may still be readable
                scan.add_failure(target, error)
                continue
            if next_start:
                return next_start
        return None

    async def _scan_cluster(self, scan: _Scan, question: Question, start: Cursor) -> Cursor | None:
        """Scan the updates of a cluster. Returns where the next page starts, None at the cluster's end."""
        scan.count_step()
        cluster, caller_id = question.cluster, question.caller.id
        facts = await scan.read(self.reads.cluster(cluster, self.max_age, caller_id))
        if verify_arn(facts, cluster).status != "ACTIVE":  # EKS cancels no update then
            return None
        ids = await scan.read(self.reads.update_ids(cluster, self.max_age, caller_id))
        for digest, update_id in sorted((_digest(each), each) for each in ids):
            if digest <= start.update:
                continue
            ref = UpdateRef(cluster, update_id)
            try:
                update = (await scan.read(self.reads.update(ref, self.max_age, caller_id))).update
            except EksNotFound:
                continue
            scan.count_step()
            advice = cancellability.advise(facts, update)
            may_get = replace(question, action=Action.GET, facts=facts, update=update)
            if advice.cancellable_now and await self.decisions.allows(may_get):
                scan.updates.append(CancellableUpdate(ref, update, advice.explanation))
            if scan.is_complete:
                return replace(start, update=digest)
        return None


def _digest(update_id: str) -> str:
    return hashlib.sha256(update_id.encode()).hexdigest()[:16]
