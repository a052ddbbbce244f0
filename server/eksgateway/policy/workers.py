"""A few threads for evaluations that take too long for the event loop, shared fairly among callers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, TypeAlias, TypeVar

from eksgateway.blocking import DaemonThreads
from eksgateway.errors import Overloaded

T = TypeVar("T")

_THREADS: Final = 3
_WAITING: Final = 64  # calls of one caller

_Turn: TypeAlias = "asyncio.Future[None]"
_Queues: TypeAlias = dict[str, deque[_Turn]]


class Workers:
    """Each caller has one thread at most, and free threads go to the callers in turn: a caller whose
    calls are slow, or fail, waits for itself. Calls that are ``first`` go ahead of all others.

    For one event loop. ``close`` waits for what is under way.
    """

    def __init__(self) -> None:
        self._threads = DaemonThreads("policy")
        self._free = _THREADS
        self._served: set[str] = set()  # callers that have a thread now
        self._queues: tuple[_Queues, _Queues] = ({}, {})  # first, others; callers in the order of their turns

    async def run(self, caller: str, call: Callable[[], T], *, within_s: float, first: bool = False) -> T:
        """Call it on a thread, and give what it returns or raises.

        Raises Overloaded when the caller has too many calls waiting, or this one did not get its turn
        within ``within_s``. A call that has begun goes on to its end, also if this task is cancelled.
        """
        await self._turn(caller, self._queues[0 if first else 1], within_s)
        with ExitStack() as held:
            held.callback(self._leave, caller)
            done = self._threads.start(call, held)
        return await asyncio.shield(done)

    async def close(self) -> None:
        """Wait for the calls under way: the policy that they evaluate must outlive them."""
        await self._threads.close()

    async def _turn(self, caller: str, queues: _Queues, within_s: float) -> None:
        if self._free and caller not in self._served:
            self._free -= 1
            self._served.add(caller)
            return
        if sum(len(each.get(caller, ())) for each in self._queues) >= _WAITING:
            raise Overloaded("Too many of your calls wait for the policy's decision: try again later.")
        turn: _Turn = asyncio.get_running_loop().create_future()
        queues.setdefault(caller, deque()).append(turn)
        try:
            async with asyncio.timeout(within_s):
                await turn
        except BaseException as exc:
            if turn.done() and not turn.cancelled():  # its turn came while it was given up
                self._leave(caller)
            elif turn in queues.get(caller, ()):
                queues[caller].remove(turn)
                if not queues[caller]:
                    del queues[caller]
            if isinstance(exc, TimeoutError):
                raise Overloaded("The policy is busy with other calls: try again later.") from exc
            raise

    def _leave(self, caller: str) -> None:
        self._served.discard(caller)
        self._free += 1
        for queues in self._queues:
            for following in [each for each in queues if each not in self._served]:
                if self._serve(following, queues):
                    return

    def _serve(self, caller: str, queues: _Queues) -> bool:
        """Give the caller's oldest call a thread; its next one comes after everybody else's. False if
        none of its calls waits any more.
        """
        waiting = queues.pop(caller)
        while waiting and waiting[0].done():  # cancelled, and its task has not gone on yet
            waiting.popleft()
        if not waiting:
            return False
        turn = waiting.popleft()
        if waiting:
            queues[caller] = waiting
        self._free -= 1
        self._served.add(caller)
        turn.set_result(None)
        return True
