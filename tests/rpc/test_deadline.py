"""One timer for all steps of a call: whom it cancels, when, and what it says was late."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest

from eksgateway.rpc.interceptors.deadline import Deadline

SOON_S = 0.02


class Late(Exception):
    """What was late, by its name."""


def late(what: str) -> Callable[[], Exception]:
    return lambda: Late(what)


async def wait_for_ever() -> None:
    async with asyncio.timeout(60):
        await asyncio.Event().wait()


async def cancelled(deadline: Deadline) -> str:
    """What was late; nothing if it was not the deadline's doing."""
    with pytest.raises(asyncio.CancelledError):
        await wait_for_ever()
    return str(deadline.error() or "")


@pytest.mark.parametrize("first_s", [60, SOON_S, SOON_S / 2, math.inf])
async def test_the_last_time_that_was_set_counts(first_s: float) -> None:
    """Whether it is sooner or later than the one before; then the task goes on as if nothing had been."""
    deadline = Deadline()
    began = deadline.now
    deadline.set(began + first_s, late("first"))
    deadline.set(began + 2 * SOON_S, late("second"))
    assert await cancelled(deadline) == "second"
    assert deadline.now >= began + 2 * SOON_S
    deadline.set(deadline.now + SOON_S, late("third"))
    assert await cancelled(deadline) == "third"
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@pytest.mark.parametrize("first", ["deadline", "client"])
async def test_who_is_cancelled_by_somebody_else_too_is_not_late(first: str) -> None:
    """A client that leaves at that very moment has left."""
    deadline, task, loop = Deadline(), asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    deadline.set(deadline.now, late("deadline"))
    if first == "deadline":
        loop.call_at(deadline.now, task.cancel)
    else:
        loop.call_soon(task.cancel)
    assert await cancelled(deadline) == ""
    task.uncancel()


@pytest.mark.parametrize("how", ["closed", "infinite"])
async def test_without_a_time_nothing_is_cancelled(how: str) -> None:
    """Nor after the call."""
    deadline = Deadline()
    deadline.set(deadline.now + SOON_S, late("never"))
    if how == "closed":
        deadline.close()
    else:
        deadline.set(math.inf)
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(2 * SOON_S, later.set)
    await later.wait()
