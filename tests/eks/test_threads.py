"""The bounded threads for blocking calls."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field

import pytest

from eksgateway.eks.threads import Threads
from eksgateway.errors import Draining, Overloaded
from support.waiting import wait_until

SIZE, WAITING = 4, 8  # so reads may hold 3 threads, and 6 of them may wait
DEADLINE = 60.0


@dataclass
class Work:
    """Blocking work that runs until its gate opens, and counts how much of it runs at once."""

    gate: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: int = 0
    most: int = 0

    def __call__(self) -> str:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.gate.wait(DEADLINE)
        with self.lock:
            self.running -= 1
        return "done"


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    pool = Threads(SIZE, WAITING)
    yield pool
    await pool.close()


@pytest.fixture
def work() -> Work:
    return Work()


async def start(
    count: int, run: Callable[[Work], Coroutine[None, None, str]], work: Work
) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(run(work)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_calls_return_their_result_or_raise_their_error(threads: Threads) -> None:
    assert await threads.read(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await threads.cancel(lambda: 1 // 0)


async def test_calls_run_on_at_most_size_threads(threads: Threads, work: Work) -> None:
    tasks = await start(SIZE + WAITING, threads.cancel, work)
    await wait_until(lambda: work.running == SIZE)
    work.gate.set()
    assert await asyncio.gather(*tasks) == ["done"] * (SIZE + WAITING)
    assert work.most == SIZE


async def test_a_full_queue_is_overloaded_at_once(threads: Threads, work: Work) -> None:
    """The error has the time to retry after."""
    tasks = await start(SIZE + WAITING, threads.cancel, work)
    with pytest.raises(Overloaded) as refused:
        await threads.cancel(work)
    assert refused.value.retry_after
    work.gate.set()
    await asyncio.gather(*tasks)
    assert await threads.cancel(lambda: "again") == "again"


async def test_a_cancel_runs_while_reads_hold_their_share(threads: Threads, work: Work) -> None:
    tasks = await start(3 + 6, threads.read, work)
    await wait_until(lambda: work.running == 3)
    with pytest.raises(Overloaded):
        await threads.read(work)
    async with asyncio.timeout(DEADLINE):
        assert await threads.cancel(lambda: "sent") == "sent"
    work.gate.set()
    await asyncio.gather(*tasks)
    assert work.most == 3


async def test_a_cancel_runs_while_reads_of_cancels_hold_their_share(work: Work) -> None:
    threads = Threads(8, 8)
    tasks = await start(7 + 7, threads.read_for_cancel, work)
    await wait_until(lambda: work.running == 7)
    with pytest.raises(Overloaded):
        await threads.read_for_cancel(work)
    async with asyncio.timeout(DEADLINE):
        assert await threads.cancel(lambda: "sent") == "sent"
    work.gate.set()
    await asyncio.gather(*tasks)
    await threads.close()


async def test_a_thread_is_reused_and_ends_at_close(work: Work) -> None:
    threads = Threads(SIZE, WAITING)
    (thread,) = {await threads.read(threading.current_thread) for _ in range(3)}
    running = await start(1, threads.cancel, work)
    other = await threads.cancel(threading.current_thread)
    assert other is not thread
    closing = asyncio.create_task(threads.close())
    await wait_until(lambda: not other.is_alive())
    assert thread.is_alive()
    work.gate.set()
    await asyncio.gather(closing, *running)
    await wait_until(lambda: not thread.is_alive())


async def test_an_error_without_a_caller_left_is_not_reported(threads: Threads, work: Work) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def fail() -> str:
        work()
        raise ZeroDivisionError

    task = asyncio.create_task(threads.read(fail))
    await wait_until(lambda: work.running == 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    work.gate.set()
    await threads.close()
    del task
    gc.collect()
    assert not complaints


async def test_a_cancelled_caller_holds_its_thread_until_the_call_ends(threads: Threads, work: Work) -> None:
    tasks = await start(SIZE, threads.cancel, work)
    await wait_until(lambda: work.running == SIZE)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    later = await start(WAITING, threads.cancel, work)
    assert work.running == SIZE
    with pytest.raises(Overloaded):
        await threads.cancel(work)
    work.gate.set()
    assert await asyncio.gather(*later) == ["done"] * WAITING
    assert work.most == SIZE


async def test_a_cancelled_caller_in_the_queue_makes_room(threads: Threads, work: Work) -> None:
    """Its call does not run."""
    running = await start(SIZE, threads.cancel, work)
    await wait_until(lambda: work.running == SIZE)
    never: list[int] = []
    waiting = [asyncio.create_task(threads.cancel(lambda: never.append(1))) for _ in range(WAITING)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    again = await start(WAITING, threads.cancel, work)
    work.gate.set()
    await asyncio.gather(*running, *again)
    assert not never


async def test_close_waits_for_running_calls_and_drains_the_rest(work: Work) -> None:
    threads = Threads(1, 1)
    running = await start(1, threads.cancel, work)
    await wait_until(lambda: work.running == 1)
    waiting = await start(1, threads.cancel, work)
    closing = asyncio.create_task(threads.close())
    await asyncio.sleep(0)
    assert not closing.done()
    work.gate.set()
    await closing
    assert await running[0] == "done"
    with pytest.raises(Draining):
        await waiting[0]
    with pytest.raises(Draining):
        await threads.read(lambda: None)


async def test_a_thread_that_cannot_start_is_overloaded(threads: Threads) -> None:
    """Later calls find every thread free."""
    before = threading.stack_size(1 << 46)  # no machine maps a stack of 64 TiB
    try:
        for _ in range(2 * SIZE):
            with pytest.raises(Overloaded):
                await threads.cancel(lambda: "never")
    finally:
        threading.stack_size(before)
    assert await threads.cancel(lambda: "done") == "done"
