"""Looks through every target for the updates that could be cancelled now: a page at a time, in one order.

What a caller may not list is not looked at, and what could not be looked at is said. Which updates
EKS really takes a cancel of is EKS's to say.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from eksgateway import cancellability
from eksgateway.clock import Clock
from eksgateway.decisions import Decisions
from eksgateway.eks.arn import verify_arn
from eksgateway.eks.shared_reads import SharedReads
from eksgateway.errors import (
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

_MOST_LOOKED_AT = 200  # clusters and updates a page
_UNREADABLE = (EksError, Overloaded, TargetMismatch)


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A position in the order of account, region, cluster and update: all before it was looked at, and so was
    the update itself. It travels in page tokens: so the update is a digest of its id, which the caller may
    not be allowed to know.
    """

    account_id: str = ""
    region: str = ""
    cluster: str = ""
    update: str = ""

    def __str__(self) -> str:
        return f"{self.account_id}/{self.region}/{self.cluster}/{self.update}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The reverse of ``str``. Any other text is a position too: EKS is asked nothing by its names."""
        return cls(*text.split("/", 3))

    def within(self, target: Target) -> Cursor:
        """Where to begin in a target: here, or at its start."""
        return max(self, Cursor(target.account_id, target.region))


@dataclass(frozen=True, slots=True)
class Found:
    """An update that could be cancelled now, and why that is thought."""

    ref: UpdateRef
    update: Update
    explanation: str


@dataclass(frozen=True, slots=True)
class Page:
    """``missed`` says of each target that was not looked at as a whole what came in the way first;
    ``following`` is where the next page begins, None after the last.
    """

    found: tuple[Found, ...]
    missed: dict[Target, GatewayError]
    following: Cursor | None


class _Look:
    """A page while it is made, and its bounds. Each page gets at least a step further."""

    def __init__(self, size: int, clock: Clock, call_timeout: float) -> None:
        self.found: list[Found] = []
        self.missed: dict[Target, GatewayError] = {}
        self._size = size
        self._clock = clock
        self._steps = 0
        self._enough = clock.monotonic() + call_timeout / 3  # the rest is for what is under way then
        self._too_late = clock.monotonic() + call_timeout * 2 / 3

    @property
    def over(self) -> bool:
        if len(self.found) >= self._size or self._steps >= _MOST_LOOKED_AT:
            return True
        return self._steps > 0 and self._clock.monotonic() >= self._enough

    def step(self) -> None:
        """Count a cluster or an update that has been dealt with, or a target that is given up."""
        self._steps += 1

    def miss(self, target: Target, error: GatewayError) -> None:
        """Something in the target could not be looked at."""
        self.step()
        if target not in self.missed:
            self.missed[target] = error
            where = {"account": target.account_id, "region": target.region}
            log.warning("survey.missed", **where, reason=error.reason, detail=error.detail)

    async def read(self, asked: Awaitable[T]) -> T:
        """What EKS says, if it says so in time: EksUnavailable otherwise."""
        try:
            async with asyncio.timeout(self._too_late - self._clock.monotonic()):
                return await asked
        except TimeoutError:
            raise EksUnavailable("EKS did not answer in the time that this call has.") from None


class CancellableUpdates:
    """Reads through ``SharedReads`` alone, one call at a time; facts are at most ``max_age`` seconds old.

    ``call_timeout`` is the time of the whole call, of which a page keeps the last third free.
    """

    def __init__(  # noqa: PLR0913  parts of the gateway, and what it is set to
        self,
        *,
        decisions: Decisions,
        reads: SharedReads,
        targets: Sequence[Target],
        clock: Clock,
        max_age: float,
        call_timeout: float,
    ) -> None:
        self._decisions = decisions
        self._reads = reads
        self._targets = targets
        self._clock = clock
        self._max_age = max_age
        self._call_timeout = call_timeout

    async def admitted(self, question: Question) -> list[Target]:
        """The targets in which the asker of ``question`` (may I list?) may list any cluster; its own
        plays no part. Raises Denied where there is none, and what ``Decisions.ask`` raises.
        """
        admitted: list[Target] = []
        denials: list[Denied] = []
        for target in self._targets:
            anywhere = ClusterRef(target.account_id, target.region, "")
            try:
                await self._decisions.require(replace(question, cluster=anywhere, any_cluster=True))
                admitted.append(target)
            except Denied as denied:
                denials.append(denied)
        if denials and not admitted:
            raise denials[0]
        return admitted

    async def page(self, question: Question, targets: list[Target], size: int, start: Cursor) -> Page:
        """What the asker may see in the targets that were ``admitted``, from ``start`` on."""
        look = _Look(size, self._clock, self._call_timeout)
        following = None
        for target in sorted(targets, key=lambda target: (target.account_id, target.region)):
            if (target.account_id, target.region) < (start.account_id, start.region):
                continue
            try:
                following = await self._look_through(look, question, target, start.within(target))
            except _UNREADABLE as error:
                look.miss(target, error)
            if following:
                break
        return Page(tuple(look.found), look.missed, following)

    async def _look_through(
        self, look: _Look, question: Question, target: Target, start: Cursor
    ) -> Cursor | None:
        """Look at a target's clusters; where to go on, unless that was all."""
        if look.over:
            return start
        names = await look.read(self._reads.cluster_names(target, self._max_age, question.caller.id))
        for name in sorted(names):
            if name < start.cluster:
                continue
            here = replace(question, cluster=ClusterRef(target.account_id, target.region, name))
            if not await self._decisions.allows(here):
                continue  # neither counted nor a place to go on from: the next page's token would tell
            cursor = max(start, Cursor(target.account_id, target.region, name))
            if look.over:
                return cursor
            try:
                following = await self._look_at(look, here, cursor)
            except EksNotFound:  # it went away after it was listed
                continue
            except EksRefused as error:  # this cluster's matter
                look.miss(target, error)
                continue
            if following:
                return following
        return None

    async def _look_at(self, look: _Look, question: Question, start: Cursor) -> Cursor | None:
        """Look at the updates of a cluster that the caller may list; where to go on, unless that was all."""
        look.step()
        cluster, who = question.cluster, question.caller.id
        facts = verify_arn(await look.read(self._reads.cluster(cluster, self._max_age, who)), cluster)
        if facts.status != "ACTIVE":  # no update can be cancelled then
            return None
        ids = await look.read(self._reads.update_ids(cluster, self._max_age, who))
        for digest, update_id in sorted((_digest(each), each) for each in ids):
            if digest <= start.update:
                continue
            cursor = replace(start, update=digest)
            ref = UpdateRef(cluster, update_id)
            try:
                update = (await look.read(self._reads.update(ref, self._max_age, who))).update
            except EksNotFound:
                continue
            look.step()
            advice = cancellability.advise(facts, update)
            asked = replace(question, action=Action.GET, facts=facts, update=update)
            if advice.cancellable_now and await self._decisions.allows(asked):
                look.found.append(Found(ref, update, advice.explanation))
            if look.over:
                return cursor
        return None


def _digest(update_id: str) -> str:
    return hashlib.sha256(update_id.encode()).hexdigest()[:16]
