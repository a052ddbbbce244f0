"""Threads for evaluations that take too long for the event loop, shared fairly among callers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias, TypeVar

from eksgateway.blocking import DaemonThreads
from eksgateway.errors import Overloaded

T = TypeVar("T")

_THREADS: Final = 3
_MAX_WAITING: Final = 64  # calls of one caller

_Turn: TypeAlias = "asyncio.Future[None]"
_Queues: TypeAlias = dict[str, deque[_Turn]]


class Workers:
    """Each caller has at most one thread, and free threads go to the callers in turn, so that slow or
    failing calls delay only their own caller. Calls with ``first`` precede all others.

    For one event loop.
    """

    def __init__(self) -> None:
        self._threads = DaemonThreads("policy")
        self._free = _THREADS
        self._active: set[str] = set()  # callers that have a thread
        self._queues: tuple[_Queues, _Queues] = ({}, {})  # first, others; callers in the order of their turns

    async def run(self, caller: str, call: Callable[[], T], *, within_s: float, first: bool = False) -> T:
        """Run the call on a thread.

        Raises Overloaded if the caller has too many calls waiting, or if the call has not started within
        ``within_s``. A call that has started runs to its end, even if this task is cancelled.
        """
        await self._wait_turn(caller, self._queues[0 if first else 1], within_s)
        leave = partial(self._leave, caller)
        try:
            done = self._threads.start(call, leave)
        except RuntimeError:
            leave()
            raise
        return await done

    async def close(self) -> None:
        """Wait for running calls: their policy must outlive them."""
        await self._threads.close()

    async def _wait_turn(self, caller: str, queues: _Queues, within_s: float) -> None:
        if self._free and caller not in self._active:
            self._free -= 1
            self._active.add(caller)
            return
        if sum(len(each.get(caller, ())) for each in self._queues) >= _MAX_WAITING:
            raise Overloaded("Too many of your calls wait for the policy's decision: try again later.")
        turn: _Turn = asyncio.get_running_loop().create_future()
        queues.setdefault(caller, deque()).append(turn)
        try:
            async with asyncio.timeout(within_s):
                await turn
        except BaseException as exc:
            if turn.done() and not turn.cancelled():  # its turn came while it was being cancelled
                self._leave(caller)
            elif turn in queues.get(caller, ()):
                queues[caller].remove(turn)
                if not queues[caller]:
                    del queues[caller]
            if isinstance(exc, TimeoutError):
                raise Overloaded("The policy is busy with other calls: try again later.") from exc
            raise

    def _leave(self, caller: str) -> None:
        self._active.discard(caller)
        self._free += 1
        for queues in self._queues:
            for following in [each for each in queues if each not in self._active]:
                if self._serve(following, queues):
                    return

    def _serve(self, caller: str, queues: _Queues) -> bool:
        """Give the caller's oldest waiting call a thread, if there is one."""
        waiting = queues.pop(caller)
        while waiting and waiting[0].done():  # cancelled, but its task has not resumed yet
            waiting.popleft()
        if not waiting:
            return False
        turn = waiting.popleft()
        if waiting:
            queues[caller] = waiting
        self._free -= 1
        self._active.add(caller)
        turn.set_result(None)
        return True
