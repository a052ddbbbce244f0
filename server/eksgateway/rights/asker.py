"""Asks the policy again about rights that are due, a few questions at a time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from eksgateway.clock import Clock
from eksgateway.decisions import Decisions
from eksgateway.eks.arn import verify_arn
from eksgateway.eks.shared_reads import SharedReads
from eksgateway.errors import Denied, GatewayError, Internal
from eksgateway.logs import Log
from eksgateway.model import ClusterFacts, Update, UpdateRef
from eksgateway.rights.schedule import Right, Schedule

log = Log(__name__)

AT_ONCE: Final = 32  # questions that wait for an answer of the policy,
SLOW_S: Final = 0.25  # not counting those that have waited so long
_BUDGET_CALLER: Final = "reauthorization"  # all watches together take turns as one caller

_Facts = tuple[ClusterFacts, Update]


@dataclass(eq=False)
class Asker:
    """Applies each answer: an allow or no decision to the schedule, a denial to the right's watches."""

    decisions: Decisions
    reads: SharedReads
    clock: Clock
    schedule: Schedule
    facts_max_age: float
    _limit: ConcurrencyLimit = field(init=False, default_factory=lambda: ConcurrencyLimit(AT_ONCE, SLOW_S))
    _rounds: set[asyncio.Task[None]] = field(init=False, default_factory=set)
    _questions: dict[Right, asyncio.Task[None]] = field(init=False, default_factory=dict)
    _logged_reason: str = field(init=False, default="")

    def ask(self, rights: list[Right], facts_timeout: float) -> None:
        """Start asking about rights for one update. Questions under way are cancelled: their answers may be
        the old policy's.
        """
        for right in rights:
            self.cancel(right)
            right.due = math.inf
        task = asyncio.create_task(self._ask_all(rights, facts_timeout))
        self._rounds.add(task)
        task.add_done_callback(self._rounds.discard)

    def cancel(self, right: Right) -> None:
        task = self._questions.pop(right, None)
        if task is not None:
            task.cancel()

    def cancel_unasked(self) -> None:
        """The caller asks these questions again."""
        for task in self._rounds:
            task.cancel()

    async def close(self) -> None:
        tasks = [*self._rounds, *self._questions.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_all(self, rights: list[Right], facts_timeout: float) -> None:
        asked_at = self.clock.monotonic()
        facts = await self._read_facts(rights[0].key.ref, facts_timeout)
        for right in rights:
            release = await self._limit.acquire()
            if not right.watches:  # all have ended meanwhile
                release(None)
                continue
            task = asyncio.create_task(self._ask_one(right, facts, asked_at))
            self._questions[right] = task
            task.add_done_callback(release)
            task.add_done_callback(partial(self._discard, right))

    async def _read_facts(self, ref: UpdateRef, timeout_s: float) -> _Facts | None:
        """None after an error or ``timeout_s``: the last known facts are used then."""
        max_age = self.facts_max_age
        try:
            async with asyncio.timeout(timeout_s):
                cluster = await self.reads.cluster(ref.cluster, max_age, _BUDGET_CALLER)
                verify_arn(cluster, ref.cluster)
                return cluster, (await self.reads.update(ref, max_age, _BUDGET_CALLER)).update
        except (GatewayError, TimeoutError):
            return None
        except Exception:  # a bug here must not keep the policy from being asked
            log.exception("reauthorise.unexpected")
            return None

    def _discard(self, right: Right, task: asyncio.Task[None]) -> None:
        if self._questions.get(right) is task:
            del self._questions[right]

    async def _ask_one(self, right: Right, facts: _Facts | None, asked_at: float) -> None:
        try:
            question = replace(right.question, time=self.clock.now())
            if facts is not None:
                question = replace(question, facts=facts[0], update=facts[1])
            await self.decisions.require(question)
        except Denied as exc:
            log.info("reauthorise.denied", **right.log_values, reason=exc.reason)
            self.schedule.forget(right)
            right.end(exc)
        except Exception as exc:  # noqa: BLE001 - any other error is no decision, and is tried again
            self.schedule.retry(right, self._log_failure(exc), self.clock.monotonic())
        else:
            self.schedule.allow(right, question, asked_at)
            self._logged_reason = ""

    def _log_failure(self, exc: Exception) -> GatewayError:
        bug = None if isinstance(exc, GatewayError) else exc
        error = exc if isinstance(exc, GatewayError) else Internal()
        if error.reason != self._logged_reason:
            self._logged_reason = error.reason
            log.warning("reauthorise.failed", reason=error.reason, detail=error.detail, exc_info=bug)
        return error


class ConcurrencyLimit:
    """At most ``count`` tasks at once, not counting those that have run for ``slow_s``."""

    def __init__(self, count: int, slow_s: float) -> None:
        self._free = asyncio.Semaphore(count)
        self._slow_s = slow_s

    async def acquire(self) -> Callable[[object], None]:
        """Return the function to call at the task's end, with any argument (for ``add_done_callback``)."""
        await self._free.acquire()
        counted = True

        def release(_: object) -> None:
            nonlocal counted
            if counted:
                counted = False
                timer.cancel()
                self._free.release()

        timer = asyncio.get_running_loop().call_later(self._slow_s, release, None)
        return release
