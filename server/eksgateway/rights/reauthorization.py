"""Decides when to ask the policy again about open watches, and ends those that may not go on."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Final

from eksgateway.clock import Clock, wait_for
from eksgateway.decisions import Decisions
from eksgateway.eks.shared_reads import SharedReads
from eksgateway.errors import GatewayError, Internal, PolicyUnavailable
from eksgateway.logs import Log
from eksgateway.model import Decision, UpdateRef
from eksgateway.policy.engine import PolicyEngine
from eksgateway.policy.question import Question
from eksgateway.revocation import FACTS_ANSWER_S
from eksgateway.rights.asker import Asker
from eksgateway.rights.schedule import OpenWatch, Right, Schedule
from eksgateway.watch.slot import Slot

log = Log(__name__)

_CLOCK_CHECK_S: Final = 1.0  # between two comparisons with the wall clock, which may be set at any time
_RIGHTS_PER_STEP: Final = 64  # rights handled before other tasks on the loop run
_PERIODIC_FACTS_S: Final = 10.0  # for newer facts; after a change of the policy it is FACTS_ANSWER_S


@dataclass(kw_only=True, eq=False)
class Reauthorization:
    """One task for all watches, and none without watches; ``schedule`` shows a right's states.

    Asks again when the policy or its data changes, when an entry of it begins or ends, and some minutes after
    the last allow. Facts are at most ``facts_max_age`` seconds old; while EKS does not answer, the last
    known are used.
    """

    decisions: Decisions
    policy: PolicyEngine
    reads: SharedReads
    facts_max_age: float
    clock: Clock
    random: Random

    def __post_init__(self) -> None:
        self._schedule = Schedule(self.random)
        self._asker = Asker(self.decisions, self.reads, self.clock, self._schedule, self.facts_max_age)
        self._rules: tuple[str, datetime | None] = ("", None)  # that the last round asked by
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def guard(self, ref: UpdateRef, question: Question, decision: Decision, slot: Slot) -> OpenWatch:
        """Revoke the slot once the policy no longer allows the question, until the returned context is left.

        ``decision`` allowed the watch's start.
        """
        now, mono = self.clock.now(), self.clock.monotonic()
        if self._task is None or self._task.done():
            self._rules = self._rules_at(now)
            self._task = asyncio.create_task(self._run(), name="reauthorize")
        right = self._schedule.allow_watch(ref, question, mono)
        expires_at = question.caller.expires_at
        lasts = (expires_at - now).total_seconds() if expires_at else math.inf
        ends = expires_at.timestamp() if expires_at else math.inf
        watch = OpenWatch(slot, decision.decision_id, ends, mono + lasts, right, self._forget)
        right.join(watch)
        if lasts < _CLOCK_CHECK_S:  # the next check of the clock is in time for later ones
            self._wake.set()
        if (decision.policy_revision, self.policy.next_change(question.time)) != self._rules_at(now):
            self._asker.ask([right], FACTS_ANSWER_S)  # they changed during the decision
        return watch

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._asker.close()

    async def _run(self) -> None:
        listening = asyncio.create_task(self._listen(self._rules[0]))
        try:
            while self._schedule.rights:  # no await between finding it empty and the end of the task
                await wait_for(self._wake, self.clock, self._seconds_to_next_round())
                self._wake.clear()
                await self._run_round()
        except Exception:  # a bug must not let any watch go on forever
            log.exception("reauthorise.unexpected")
            for right in self._schedule.rights:
                self._end(right, Internal())
        finally:
            listening.cancel()

    async def _listen(self, revision: str) -> None:
        while True:
            revision = await self.policy.revision_after(revision)
            self._wake.set()

    def _rules_at(self, now: datetime) -> tuple[str, datetime | None]:
        # They also change when the wall clock is set past an edge.
        return self.policy.revision, self.policy.next_change(now)

    def _seconds_to_next_round(self) -> float:
        edge = self._rules[1]
        to_edge = (edge - self.clock.now()).total_seconds() if edge else math.inf
        next_expiry = min((right.expires_mono for right in self._schedule.rights), default=math.inf)
        to_expiry = next_expiry - self.clock.monotonic()
        return max(0.0, min(_CLOCK_CHECK_S, to_edge, to_expiry))

    async def _run_round(self) -> None:
        now, mono = self.clock.now(), self.clock.monotonic()
        before, self._rules = self._rules, self._rules_at(now)
        changed = self._rules != before
        if changed:  # this round asks about all of these, but not about watches that join during it
            self._asker.cancel_unasked()
        due: dict[UpdateRef, list[Right]] = {}
        for number, right in enumerate(self._schedule.rights):
            if number % _RIGHTS_PER_STEP == 0:
                await asyncio.sleep(0)
            right.end_expired(now.timestamp(), mono)
            if not right.watches:
                self._forget(right)
            elif self._schedule.has_run_out(right, mono):
                error = right.failure or PolicyUnavailable()
                log.warning("reauthorise.undecided", **right.log_values, reason=error.reason)
                self._end(right, error)
            elif changed or mono >= right.due:
                due.setdefault(right.key.ref, []).append(right)
        for number, rights in enumerate(due.values()):
            if number % _RIGHTS_PER_STEP == 0:
                await asyncio.sleep(0)
            self._asker.ask(rights, FACTS_ANSWER_S if changed else _PERIODIC_FACTS_S)

    def _end(self, right: Right, error: GatewayError) -> None:
        self._forget(right)
        right.end(error)

    def _forget(self, right: Right) -> None:
        self._asker.cancel(right)
        self._schedule.forget(right)
