"""Tasks that several callers share."""

from __future__ import annotations

import asyncio
import gc

import pytest

from eksgateway.single_flight import SharedTask
from support.clock import settle


class Work:
    """Work that ends when the test releases it, and a count of ``forget`` calls."""

    def __init__(self, *, may_abandon: bool = False, error: Exception | None = None) -> None:
        self.released = asyncio.Event()
        self.forgotten = 0
        self.error = error
        self.task = SharedTask(self._run(), forget=self._forget, may_abandon=lambda: may_abandon)

    async def _run(self) -> str:
        await self.released.wait()
        if self.error is not None:
            raise self.error
        return "result"

    def _forget(self) -> None:
        self.forgotten += 1

    async def start(self, callers: int) -> list[asyncio.Task[bool]]:
        tasks = [asyncio.create_task(self.task.wait()) for _ in range(callers)]
        await settle()
        return tasks


async def test_every_caller_gets_the_result_of_one_run() -> None:
    work = Work()
    callers = await work.start(3)
    work.released.set()
    assert await asyncio.gather(*callers) == [True] * 3
    assert (work.task.result(), work.forgotten) == ("result", 1)


async def test_wait_returns_false_after_its_timeout_and_the_task_goes_on() -> None:
    work = Work()
    assert not await work.task.wait(0)
    work.released.set()
    assert await work.task.wait()


async def test_a_caller_that_leaves_does_not_end_the_task_of_another() -> None:
    work = Work(may_abandon=True)
    leaving, staying = await work.start(2)
    leaving.cancel()
    await settle()
    work.released.set()
    assert await staying
    assert work.task.result() == "result"


@pytest.mark.parametrize("may_abandon", [True, False])
async def test_the_last_caller_that_leaves_abandons_the_task_only_where_it_may(*, may_abandon: bool) -> None:
    work = Work(may_abandon=may_abandon)
    (only,) = await work.start(1)
    only.cancel()
    await settle()
    assert work.task.cancelled == may_abandon
    assert bool(work.forgotten) == may_abandon
    work.released.set()
    await work.task.wait()


async def test_an_error_without_a_caller_left_is_not_reported() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    work = Work(error=ValueError())
    (only,) = await work.start(1)
    only.cancel()
    await settle()
    work.released.set()
    await settle()
    assert work.task.done
    del work
    gc.collect()
    assert not reported


async def test_stop_ends_a_task_that_takes_longer_than_its_grace() -> None:
    work = Work()
    callers = await work.start(1)
    await work.task.stop(0)
    assert await asyncio.gather(*callers) == [True]
    assert (work.task.cancelled, work.forgotten) == (True, 1)


async def test_stop_does_not_keep_an_abandoned_task() -> None:
    work = Work(may_abandon=True)
    (leaving,) = await work.start(1)
    stopping = asyncio.create_task(work.task.stop(60))
    leaving.cancel()
    await stopping
    assert work.task.cancelled
