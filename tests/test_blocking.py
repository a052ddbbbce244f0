"""Blocking calls off the event loop: their results, their threads, and reads that hang."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from eksgateway.blocking import MAX_HANGING, DaemonThreads, RepeatedRead, run_blocking
from eksgateway.file_reader import read_file
from support.hanging_file import hang_reads

TIMEOUT_S = 20


class HeldRead:
    """A read that waits until ``open`` is set, then returns its number."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun = 0

    def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        self.open.wait(60)
        return number


@pytest.fixture
async def gate() -> AsyncIterator[HeldRead]:
    gate = HeldRead()
    yield gate
    gate.open.set()


async def test_run_blocking_returns_the_result_or_error_of_the_call() -> None:
    """On another thread than the loop's."""
    assert await run_blocking(int, "12", base=8) == 10
    assert await run_blocking(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await run_blocking(lambda: 1 // 0)


async def test_run_blocking_leaves_no_thread_behind() -> None:
    """The thread ends with its call."""
    thread = await run_blocking(threading.current_thread)
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()


def test_a_call_that_hangs_does_not_keep_the_process_from_ending() -> None:
    """Neither the loop nor the interpreter waits for it."""
    program = (
        "import asyncio, contextlib, time\n"
        "from eksgateway.blocking import run_blocking\n"
        "async def main():\n"
        "    with contextlib.suppress(TimeoutError):\n"
        "        async with asyncio.timeout(0.05):\n"
        "            await run_blocking(time.sleep, 600)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("stays", [True, False])
async def test_daemon_threads_release_after_the_call(gate: HeldRead, *, stays: bool) -> None:
    """Also when the caller has left."""
    threads, released = DaemonThreads("test"), asyncio.Event()
    done = threads.start(gate, released.set)
    if not stays:
        done.cancel()
        await asyncio.sleep(0)
    assert not released.is_set()
    closing = asyncio.create_task(threads.close())
    gate.open.set()
    if stays:
        assert await done == 1
        assert released.is_set()
    await closing
    assert released.is_set()
    with pytest.raises(RuntimeError):
        threads.start(gate)


async def test_repeated_read_is_shared_by_callers_at_the_same_time(gate: HeldRead) -> None:
    """Any number of them need one thread."""
    repeated = RepeatedRead(gate)
    reads = [asyncio.create_task(repeated.read()) for _ in range(50)]
    await asyncio.sleep(0)
    gate.open.set()
    assert await asyncio.gather(*reads) == [1] * 50
    assert await repeated.read() == 2


async def test_repeated_read_raises_the_error_of_the_read() -> None:
    """In each caller; the next read is a new one."""

    def fail() -> None:
        raise ZeroDivisionError

    repeated = RepeatedRead(fail)
    results = await asyncio.gather(repeated.read(), repeated.read(), return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError] * 2
    with pytest.raises(ZeroDivisionError):
        await repeated.read()


async def test_repeated_read_starts_others_beside_one_that_hangs_up_to_a_bound(gate: HeldRead) -> None:
    """Each starts after twice the time of the one before. In the end the current content is read."""
    repeated, loop = RepeatedRead(gate, timeout_s=0.02), asyncio.get_running_loop()
    begun = loop.time()
    while gate.begun < MAX_HANGING:
        with pytest.raises(TimeoutError):
            await repeated.read()
    assert loop.time() - begun >= 0.02 * (2 ** (MAX_HANGING - 1) - 1)
    for _ in range(20):
        with pytest.raises(TimeoutError):
            await repeated.read()
    assert gate.begun == MAX_HANGING
    gate.open.set()
    async with asyncio.timeout(TIMEOUT_S):
        while gate.begun == MAX_HANGING:
            with suppress(TimeoutError):
                await repeated.read()


async def test_repeated_read_reads_the_file_that_replaced_a_hanging_one(tmp_path: Path) -> None:
    """The thread that hangs on the old file holds up no read of the new one."""
    file, beside, stuck = tmp_path / "file", tmp_path / "good", tmp_path / "stuck"
    beside.write_bytes(b"good")
    repeated = RepeatedRead(lambda: read_file(file, 10), timeout_s=0.5)
    with hang_reads(file):
        with pytest.raises(TimeoutError):
            await repeated.read()
        file.rename(stuck)
        beside.rename(file)
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                with suppress(TimeoutError):
                    assert await repeated.read() == b"good"
                    break
        stuck.rename(file)
