"""Asks again whether open watches may go on, and ends those that may not; knows nothing of what they tell."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from datetime import datetime
from random import Random
from typing import Final

from eksgateway.clock import Clock, wait_for
from eksgateway.decisions import Decisions
from eksgateway.errors import Denied, GatewayError, Internal, PolicyUnavailable
from eksgateway.logs import Log
from eksgateway.model import Decision, UpdateRef
from eksgateway.policy.engine import PolicyEngine
from eksgateway.policy.question import Question
from eksgateway.revocation import FACTS_ANSWER_S
from eksgateway.rights.concurrency import ConcurrencyLimit
from eksgateway.rights.facts import Facts, Reads, read
from eksgateway.rights.right import Key, Right, Stream
from eksgateway.watch.slot import Slot

log = Log(__name__)

GOOD_FOR_S: Final = 300.0  # how long a watch goes on after a yes, whatever happens
PERIOD_S: Final = (120.0, 240.0)  # until it is asked again: drawn, so that many do not come at once
RETRY_S: Final = (2.0, 4.0)  # until it is asked again after the policy could not decide
AT_ONCE: Final = 32  # questions that the policy is asked at the same time,
SLOW_S: Final = 0.25  # not counting those that it has not answered for so long
_TICK_S: Final = 1.0  # between two looks at the clocks: the wall clock may have been set
_CHUNK: Final = 64  # questions looked at before everybody else on the loop has a turn
_FACTS_S: Final = 10.0  # for newer facts, where no change of the policy waits for its answer


class Reauthorization:
    """One task for all watches, and none when there are none.

    Every question is asked again when the policy or its data changes, when a freeze begins or ends,
    and some minutes after its last yes, with facts that are at most ``facts_max_age`` seconds old.
    (While EKS does not give them, what it said last counts, as it does for what a watch tells.)

    No: the watch ends with the denial. Could not decide: it is tried again every few seconds, and
    the watch goes on until its last yes is ``GOOD_FOR_S`` old; then it ends with the reason. When
    the caller's credentials end, so does the watch, with CredentialsExpired. What its reader has
    not read by then is not told.
    """

    def __init__(  # noqa: PLR0913 - each is one part of the gateway
        self,
        *,
        decisions: Decisions,
        policy: PolicyEngine,
        reads: Reads,
        facts_max_age: float,
        clock: Clock,
        random: Random,
    ) -> None:
        self._decisions = decisions
        self._policy = policy
        self._reads = reads
        self._facts_max_age = facts_max_age
        self._clock = clock
        self._random = random
        self._rights: dict[Key, Right] = {}
        self._in_force: tuple[str, datetime | None] = ("", None)  # as last looked at
        self._expiry = math.inf  # when the next credentials end, monotonic
        self._wake = asyncio.Event()
        self._places = ConcurrencyLimit(AT_ONCE, SLOW_S)
        self._rounds: set[asyncio.Task[None]] = set()
        self._failing = ""
        self._task: asyncio.Task[None] | None = None

    def guard(self, ref: UpdateRef, question: Question, decision: Decision, slot: Slot) -> Stream:
        """Let the watch in this slot go on for as long as the question is answered with yes.

        ``decision`` is the yes that it began with. It is ended through ``slot.revoke``, and over when the
        stream is left as a context.
        """
        now, mono = self._clock.now(), self._clock.monotonic()
        expires_at = question.caller.expires_at
        until = mono + (expires_at - now).total_seconds() if expires_at else math.inf
        ends = expires_at.timestamp() if expires_at else math.inf
        right = self._right(Key.of(ref, question), question, mono)
        stream = Stream(slot, decision.decision_id, ends, until, right, self._forget)
        right.join(stream)
        self._start(now)
        self._expiry = min(self._expiry, until)
        if until - mono < _TICK_S:  # else the next tick is in time to plan for it
            self._wake.set()
        if (decision.policy_revision, self._policy.next_freeze_change(question.time)) != self._rules(now):
            self._ask([right], FACTS_ANSWER_S)  # they have changed while it was being decided
        return stream

    async def close(self) -> None:
        """Ask no more."""
        tasks = [self._task, *self._rounds, *(right.asking for right in self._rights.values())]
        running = [task for task in tasks if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # -- When ------------------------------------------------------------------------------------

    def _start(self, now: datetime) -> None:
        if self._task is None or self._task.done():
            self._in_force, self._expiry = self._rules(now), math.inf
            self._task = asyncio.create_task(self._run(), name="reauthorise")

    async def _run(self) -> None:
        listening = asyncio.create_task(self._listen(self._in_force[0]))
        try:
            while self._rights:  # nothing is awaited between finding that there are none and the end
                await wait_for(self._wake, self._clock, self._rest())
                self._wake.clear()
                await self._look()
        except Exception:  # a bug must not let anybody watch for ever
            log.exception("reauthorise.unexpected")
            for right in tuple(self._rights.values()):
                self._end(right, Internal())
        finally:
            listening.cancel()

    async def _listen(self, revision: str) -> None:
        while True:
            revision = await self._policy.revision_after(revision)
            self._wake.set()

    def _rules(self, now: datetime) -> tuple[str, datetime | None]:
        """What decides: differs after every change, also when the wall clock is set over an edge."""
        return self._policy.revision, self._policy.next_freeze_change(now)

    def _rest(self) -> float:
        edge = self._in_force[1]
        to_edge = (edge - self._clock.now()).total_seconds() if edge else math.inf
        return max(0.0, min(_TICK_S, to_edge, self._expiry - self._clock.monotonic()))

    async def _look(self) -> None:
        """End what has run out, and ask again what is due: everything, after a change."""
        now, mono = self._clock.now(), self._clock.monotonic()
        before, self._in_force = self._in_force, self._rules(now)
        changed = self._in_force != before
        if changed:  # what they have still to ask is looked at now; not so what joins from here on
            for asking in self._rounds:
                asking.cancel()
        self._expiry = math.inf
        due: dict[UpdateRef, list[Right]] = {}
        for number, right in enumerate(tuple(self._rights.values())):
            if number % _CHUNK == 0:
                await asyncio.sleep(0)
            right.expire(now.timestamp(), mono)
            self._expiry = min(self._expiry, right.until)
            if not right.streams:
                self._forget(right)
            elif mono >= right.decided + GOOD_FOR_S:
                error = right.failure or PolicyUnavailable()
                log.warning("reauthorise.undecided", **right.about, reason=error.reason)
                self._end(right, error)
            elif changed or mono >= right.due:
                due.setdefault(right.key.ref, []).append(right)
        for number, rights in enumerate(due.values()):
            if number % _CHUNK == 0:
                await asyncio.sleep(0)
            self._ask(rights, FACTS_ANSWER_S if changed else _FACTS_S)

    # -- What ------------------------------------------------------------------------------------

    def _ask(self, rights: list[Right], patience: float) -> None:
        """Ask what is about one update. An answer still under way may be by what was in force before,
        and is not waited for.
        """
        for right in rights:
            if right.asking is not None:
                right.asking.cancel()
            right.due = math.inf
        asking = asyncio.create_task(self._round(rights, patience))
        self._rounds.add(asking)
        asking.add_done_callback(self._rounds.discard)

    async def _round(self, rights: list[Right], patience: float) -> None:
        """Each question in a task of its own, for as long as that takes; few of them at the same time."""
        began = self._clock.monotonic()
        ref = rights[0].key.ref
        facts = await read(self._reads, ref, max_age=self._facts_max_age, within=patience)
        for right in rights:
            leave = await self._places.take()
            if not right.streams:  # they have ended meanwhile
                leave(None)
                continue
            right.asking = asyncio.create_task(self._settle(right, facts, began))
            right.asking.add_done_callback(leave)

    async def _settle(self, right: Right, facts: Facts | None, began: float) -> None:
        try:
            question = replace(right.question, time=self._clock.now())
            if facts is not None:
                question = replace(question, facts=facts.cluster, update=facts.update)
            await self._decisions.require(question)
        except Denied as exc:
            right.asking = None
            log.info("reauthorise.denied", **right.about, reason=exc.reason)
            self._end(right, exc)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is no answer, and is tried again
            right.asking = None
            right.failure = self._undecided(exc)
            right.due = self._clock.monotonic() + self._random.uniform(*RETRY_S)
        else:
            right.asking, right.due = None, began + self._random.uniform(*PERIOD_S)
            right.allowed(question, began)
            self._failing = ""

    def _undecided(self, exc: Exception) -> GatewayError:
        bug = None if isinstance(exc, GatewayError) else exc
        error = exc if isinstance(exc, GatewayError) else Internal()
        if error.reason != self._failing:  # told once, however many questions there are
            self._failing = error.reason
            log.warning("reauthorise.failed", reason=error.reason, detail=error.detail, exc_info=bug)
        return error

    def _right(self, key: Key, question: Question, now: float) -> Right:
        right = self._rights.get(key)
        if right is None:
            due = now + self._random.uniform(*PERIOD_S)
            right = self._rights[key] = Right(key, question, now, due)
        right.allowed(question, now)
        return right

    def _end(self, right: Right, error: GatewayError) -> None:
        self._forget(right)
        right.end(error)

    def _forget(self, right: Right) -> None:
        """Let nobody join it any more."""
        if right.asking is not None:
            right.asking.cancel()
        if self._rights.get(right.key) is right:
            del self._rights[right.key]
