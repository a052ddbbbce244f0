"""A call's deadline: one timer for all steps."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import pytest

from eksgateway.rpc.interceptors.deadline import Deadline

SOON_S = 0.02


class Late(Exception):
    """The error of a step, by the step's name."""


def late(step: str) -> Callable[[], Exception]:
    return lambda: Late(step)


async def wait_for_ever() -> None:
    async with asyncio.timeout(60):
        await asyncio.Event().wait()


async def wait_for_cancel(deadline: Deadline) -> str:
    """The late step; empty if the deadline did not cancel."""
    with pytest.raises(asyncio.CancelledError):
        await wait_for_ever()
    return str(deadline.error() or "")


@pytest.mark.parametrize("first_s", [60, SOON_S, SOON_S / 2, math.inf])
async def test_the_deadline_that_was_set_last_applies(first_s: float) -> None:
    """It may be earlier or later than the one before. Afterwards the task is not being cancelled."""
    deadline = Deadline()
    began = deadline.now
    deadline.set(began + first_s, late("first"))
    deadline.set(began + 2 * SOON_S, late("second"))
    assert await wait_for_cancel(deadline) == "second"
    assert deadline.now >= began + 2 * SOON_S
    deadline.set(deadline.now + SOON_S, late("third"))
    assert await wait_for_cancel(deadline) == "third"
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@pytest.mark.parametrize("first", ["deadline", "client"])
async def test_error_is_none_when_another_cancels_too(first: str) -> None:
    """A client that leaves at that moment counts as gone."""
    deadline, task, loop = Deadline(), asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    deadline.set(deadline.now, late("deadline"))
    if first == "deadline":
        loop.call_at(deadline.now, task.cancel)
    else:
        loop.call_soon(task.cancel)
    assert await wait_for_cancel(deadline) == ""
    task.uncancel()


@pytest.mark.parametrize("how", ["closed", "infinite"])
async def test_no_deadline_cancels_nothing(how: str) -> None:
    deadline = Deadline()
    deadline.set(deadline.now + SOON_S, late("never"))
    if how == "closed":
        deadline.close()
    else:
        deadline.set(math.inf)
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(2 * SOON_S, later.set)
    await later.wait()
