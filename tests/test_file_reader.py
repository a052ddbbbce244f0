"""Reading files for an event loop: shared, bounded in time, and bounded in the threads that hang."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from eksgateway.file_reader import MOST_THREADS, FileUnreadable, Reader, read_file
from support.hanging import hanging


class Gate:
    """A read that waits until it is let through, then gives its number."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun = 0

    def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        self.open.wait(60)
        return number


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


async def test_readers_at_the_same_time_share_a_read(gate: Gate) -> None:
    """However many ask, one thread reads."""
    reader = Reader(gate)
    reads = [asyncio.create_task(reader.read()) for _ in range(50)]
    await asyncio.sleep(0)
    gate.open.set()
    assert await asyncio.gather(*reads) == [1] * 50
    assert await reader.read() == 2


async def test_an_error_is_the_readers() -> None:
    """Every one of them gets it, and the next read is a new one."""

    def fail() -> None:
        raise ZeroDivisionError

    reader = Reader(fail)
    results = await asyncio.gather(reader.read(), reader.read(), return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError] * 2
    with pytest.raises(ZeroDivisionError):
        await reader.read()


async def test_a_read_that_hangs_for_good_gets_others_beside_it_up_to_a_bound(gate: Gate) -> None:
    """Each after twice the time of the one before; what is there in the end is read."""
    reader, loop = Reader(gate, within=0.02), asyncio.get_running_loop()
    begun = loop.time()
    while gate.begun < MOST_THREADS:
        with pytest.raises(TimeoutError):
            await reader.read()
    assert loop.time() - begun >= 0.02 * (2 ** (MOST_THREADS - 1) - 1)
    for _ in range(20):
        with pytest.raises(TimeoutError):
            await reader.read()
    assert gate.begun == MOST_THREADS
    gate.open.set()
    async with asyncio.timeout(20):
        while gate.begun == MOST_THREADS:
            with suppress(TimeoutError):
                await reader.read()


async def test_a_file_that_hung_is_read_once_something_else_is_in_its_place(tmp_path: Path) -> None:
    """The thread that hangs on what was there before keeps nobody from it."""
    file, beside, stuck = tmp_path / "file", tmp_path / "good", tmp_path / "stuck"
    beside.write_bytes(b"good")
    reader = Reader(lambda: read_file(file, 10), within=0.5)
    with hanging(file):
        with pytest.raises(TimeoutError):
            await reader.read()
        file.rename(stuck)
        beside.rename(file)
        async with asyncio.timeout(20):
            while True:
                with suppress(TimeoutError):
                    assert await reader.read() == b"good"
                    break
        stuck.rename(file)


def test_a_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    """What cannot be read says why, and nothing of what it holds."""
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    assert read_file(file, 10) == b"0123456789"
    for path, most, why in (
        (file, 9, "is larger than 9 bytes"),
        (tmp_path, 9, "Is a directory"),
        (tmp_path / "x", 9, "No such file"),
    ):
        with pytest.raises(FileUnreadable, match=why):
            read_file(path, most)
