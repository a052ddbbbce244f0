"""Makes a cancel idempotent: equal calls of one caller with the same request_id share one run of it.

Once that run has ended, the ledger answers a repeat: see ``Cancellations.cancel``. A request_id is of the
request that the ledger has recorded with it, or else of the one in progress.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from itertools import chain

from eksgateway import errors
from eksgateway.cancellation import CancelCall, Cancellations, CancelProgress, outcome_unknown
from eksgateway.clock import Clock
from eksgateway.model import Cancellation
from eksgateway.single_flight import SharedTask

_Key = tuple[str, str]  # the caller's id and the request_id


@dataclass(eq=False, slots=True)
class _SharedCancel:
    """A cancel in progress. ``call`` started it, and others may have joined.

    Until it forwards, it is abandoned when the last call leaves. Afterwards it runs to its end.
    """

    call: CancelCall
    task: SharedTask[Cancellation] = field(init=False)
    progress: CancelProgress = field(default_factory=CancelProgress)

    @property
    def cancellation_id(self) -> str:
        return self.progress.cancellation_id

    async def wait(self, seconds: float) -> bool:
        """Wait for the end; return whether it has ended.

        While the intent is recorded this waits longer, by the ledger's deadline at most: before that it is
        not known whether there is a cancellation.
        """
        if await self.task.wait(seconds):
            return True
        if self.progress.recording is not None:
            await self.progress.recording.wait()
        return self.task.done

    def result_applies_to(self, call: CancelCall) -> bool:
        """Whether the result of the ended task is this call's too.

        A failure before the intent is not, if ``call`` has other credentials or needs other actions.
        """
        if self.progress.recording is not None or self.cancellation_id or self.task.error is None:
            return True
        question = replace(self.call.question, decision_id=call.question.decision_id, time=call.question.time)
        return replace(self.call, question=question) == call


@dataclass(frozen=True, slots=True)
class IdempotentCancels:
    """``call_timeout`` is how long one call may take, in seconds."""

    cancellations: Cancellations
    clock: Clock
    call_timeout: float
    in_progress: dict[_Key, list[_SharedCancel]] = field(default_factory=dict)  # of different requests

    async def cancel(self, call: CancelCall) -> Cancellation:
        """Start a cancel, or join the one in progress with this caller, request_id and request.

        If the joined run failed for a reason that is not this call's, the call starts a new run. Raises
        RequestIdReused while one with other parameters is in progress, unless those of this call are
        recorded, perhaps by another replica; EksUnavailable or, with a cancellation, OutcomeUnknown after
        ``call_timeout``; and what ``Cancellations.cancel`` raises.
        """
        deadline = self.clock.monotonic() + self.call_timeout
        key = (call.caller.id, call.request_id)
        while True:
            shared = self._find(key, call)
            if shared is None and key in self.in_progress:
                await self.cancellations.require_recorded(call)
                shared = self._find(key, call)
            shared = shared or self._start(key, call)
            if not await shared.wait(max(0.0, deadline - self.clock.monotonic())):
                if shared.cancellation_id:
                    raise outcome_unknown(shared.cancellation_id)
                raise errors.EksUnavailable(errors.CALL_TIMED_OUT)
            if shared.task.cancelled:  # by ``finish``
                if shared.cancellation_id:
                    raise outcome_unknown(shared.cancellation_id)
                raise errors.Draining
            if shared.result_applies_to(call):
                return shared.task.result()

    async def finish(self, grace: float) -> None:
        """Give the cancels in progress ``grace`` seconds, then stop them.

        A forward that is stopped is OUTCOME_UNKNOWN.
        """
        runs = chain.from_iterable(self.in_progress.values())
        await asyncio.gather(*(shared.task.stop(grace) for shared in runs))

    def _find(self, key: _Key, call: CancelCall) -> _SharedCancel | None:
        runs = self.in_progress.get(key, ())
        return next((shared for shared in runs if shared.call.request == call.request), None)

    def _start(self, key: _Key, call: CancelCall) -> _SharedCancel:
        shared = _SharedCancel(call)
        shared.task = SharedTask(
            self.cancellations.cancel(call, shared.progress),
            forget=lambda: self._forget(key, shared),
            may_abandon=lambda: not shared.progress.forwards,
        )
        self.in_progress.setdefault(key, []).append(shared)
        return shared

    def _forget(self, key: _Key, shared: _SharedCancel) -> None:
        runs = self.in_progress.get(key, [])
        if shared in runs:
            runs.remove(shared)
            if not runs:
                del self.in_progress[key]
