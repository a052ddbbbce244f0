"""Threads for slow evaluations are shared fairly among callers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from eksgateway.errors import Overloaded
from eksgateway.policy.workers import Workers
from support.clock import settle

LONG_S = 30.0


class BlockingCall:
    """Blocks its thread until ``leave``."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._left = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        self._left.wait(LONG_S)

    def leave(self) -> None:
        self._left.set()


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    made = Workers()
    yield made
    await made.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 - a thread sets no asyncio event
            await asyncio.sleep(0.005)


async def test_run_returns_or_raises_what_the_call_does(workers: Workers) -> None:
    """On another thread than the event loop's."""
    assert await workers.run("a", threading.get_ident, within_s=LONG_S) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await workers.run("a", lambda: 1 // 0, within_s=LONG_S)


async def test_a_caller_has_at_most_one_thread(workers: Workers) -> None:
    held = [BlockingCall() for _ in range(4)]
    greedy = [asyncio.create_task(workers.run("greedy", each, within_s=LONG_S)) for each in held]
    await _until(held[0].begun.is_set)
    for name in ("b", "c", "b"):
        assert await workers.run(name, lambda: "yes", within_s=LONG_S) == "yes"
    assert [each.begun.is_set() for each in held] == [True, False, False, False]
    for each in held:
        each.leave()
    await asyncio.gather(*greedy)


async def test_callers_take_turns_and_cancels_go_first(workers: Workers) -> None:
    busy = [BlockingCall() for _ in range(3)]
    under_way = [
        asyncio.create_task(workers.run(f"busy-{number}", each, within_s=LONG_S))
        for number, each in enumerate(busy)
    ]
    await _until(lambda: all(each.begun.is_set() for each in busy))
    order: list[str] = []
    waiting = []
    for name, first in (("a1", False), ("a2", False), ("b1", False), ("c1", True), ("a3", True)):
        call = workers.run(name[0], lambda name=name: order.append(name), within_s=LONG_S, first=first)  # type: ignore[misc]  # a default argument
        waiting.append(asyncio.create_task(call))
        await settle()
    busy[0].leave()
    await asyncio.gather(*waiting)
    assert order == ["c1", "a3", "a1", "b1", "a2"]
    for each in busy:
        each.leave()
    await asyncio.gather(*under_way)


async def test_a_caller_with_too_many_calls_is_refused_at_once(workers: Workers) -> None:
    """Other callers are not."""
    held = BlockingCall()
    calls = [asyncio.create_task(workers.run("greedy", held, within_s=LONG_S)) for _ in range(65)]
    await _until(held.begun.is_set)
    with pytest.raises(Overloaded, match="your calls wait"):
        await workers.run("greedy", held, within_s=LONG_S)
    assert await workers.run("other", lambda: "yes", within_s=LONG_S) == "yes"
    held.leave()
    await asyncio.gather(*calls)


async def test_a_call_without_a_turn_in_time_is_refused(workers: Workers) -> None:
    """It is removed from the queue."""
    held = BlockingCall()
    under_way = asyncio.create_task(workers.run("a", held, within_s=LONG_S))
    await _until(held.begun.is_set)
    with pytest.raises(Overloaded, match="busy"):
        await workers.run("a", held, within_s=0.01)
    held.leave()
    await under_way
    assert await workers.run("a", lambda: "yes", within_s=LONG_S) == "yes"


async def test_cancelled_calls_give_their_turns_to_others(workers: Workers) -> None:
    """A waiting call, one whose turn has just come, and a running one, which runs to its end."""
    held = BlockingCall()
    under_way = asyncio.create_task(workers.run("a", held, within_s=LONG_S))
    await _until(held.begun.is_set)
    waiting = [asyncio.create_task(workers.run("a", held, within_s=LONG_S)) for _ in range(3)]
    await settle()
    for each in (under_way, *waiting):
        each.cancel()
    assert await workers.run("b", lambda: "yes", within_s=LONG_S) == "yes"
    later = asyncio.create_task(workers.run("a", lambda: "later", within_s=LONG_S))
    await settle()
    assert not later.done()
    held.leave()
    assert await later == "later"
    for number in range(3):
        names = [f"{number}{name}" for name in "abcdef"]
        assert await asyncio.gather(*(workers.run(each, each.upper, within_s=LONG_S) for each in names))


async def test_the_turn_of_a_cancelled_call_is_passed_on(workers: Workers) -> None:
    held = BlockingCall()
    under_way = asyncio.create_task(workers.run("a", held, within_s=LONG_S))
    await _until(held.begun.is_set)
    waiting = [asyncio.create_task(workers.run("a", lambda: "yes", within_s=LONG_S)) for _ in range(2)]
    await settle()
    held.leave()
    under_way.add_done_callback(lambda _: waiting[0].cancel())
    assert await waiting[1] == "yes"
    assert await workers.run("a", lambda: "yes", within_s=LONG_S) == "yes"
