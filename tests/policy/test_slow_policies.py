"""Slow or failing evaluations do not hold up the event loop, memory or other callers."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from eksgateway.errors import Overloaded, PolicyUnavailable
from eksgateway.policy.files import read_module
from eksgateway.policy.wasm import WasmEngine
from support.clock import settle
from support.opa import compile_rego
from support.policies import compile_data
from support.policy_cases import CONTENT
from support.questions import at_request, caller

Load = Callable[..., Awaitable[WasmEngine]]

# Denies all callers but two: `slow` takes for ever, and `greedy` more memory than there is.
TROUBLED = """package eksgateway.authz

default decision := {"allow": false}

decision := {"allow": count(big) == 0} if input.subject.id == "greedy"

big := [concat("", [a, b, c]) | some a in data.s; some b in data.s; some c in data.s]

decision := {"allow": n == 0} if input.subject.id == "slow"

n := count([1 | some a in data.n; some b in data.n; some c in data.n; a > b; b > c; c > a])
"""
DATA = {"n": list(range(2000)), "s": [str(n) * 2000 for n in range(9)] * 9}
SLOW, GREEDY, OTHER = (at_request(caller(name)) for name in ("slow", "greedy", "other"))


@pytest.fixture
async def load(tmp_path: Path) -> AsyncIterator[Load]:
    """Loads engines of the test policy; they are closed at the end."""
    async with AsyncExitStack() as stack:

        async def load_(timeout_s: float = 2, data: dict[str, Any] = DATA) -> WasmEngine:
            wasm = await asyncio.to_thread(compile_rego, TROUBLED, tmp_path)
            engine = await WasmEngine.load(wasm, compile_data(data), timeout_s=timeout_s)
            stack.push_async_callback(engine.close)
            return engine

        yield load_


def resident_bytes() -> int:
    """The resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_other_callers_are_answered_during_an_endless_evaluation(load: Load) -> None:
    """On the event loop it would have to end first."""
    engine = await load(timeout_s=5)
    began = time.monotonic()
    slow = asyncio.create_task(engine.decide(SLOW))
    await settle()  # until it has tried the event loop, and gone on to a thread
    assert time.monotonic() - began < 4
    for _ in range(100):
        assert not (await engine.decide(OTHER)).allowed
        assert not slow.done()
    with pytest.raises(PolicyUnavailable) as caught:
        await slow
    assert "INTERRUPT" in caught.value.detail


async def test_slow_evaluations_delay_only_their_caller(load: Load) -> None:
    """Its calls beyond the queue are refused at once."""
    engine = await load(timeout_s=1)
    slow = [asyncio.create_task(engine.decide(SLOW)) for _ in range(200)]
    for _ in range(20):
        assert not (await engine.decide(OTHER)).allowed
    errors = await asyncio.gather(*slow, return_exceptions=True)
    assert {type(error) for error in errors} == {Overloaded, PolicyUnavailable}
    assert sum(isinstance(error, PolicyUnavailable) for error in errors) <= 5


async def test_failed_evaluations_free_their_memory(load: Load) -> None:
    """Each fails at the memory limit: a few of them would hold gigabytes."""
    engine = await load()
    peak = 0
    for number in range(24):
        with pytest.raises(PolicyUnavailable, match="could not be evaluated") as caught:
            await engine.decide(GREEDY)
        assert "opa_malloc" in caught.value.detail
        if number == 3:
            peak = resident_bytes()
    assert resident_bytes() < peak + (64 << 20)
    assert not (await engine.decide(OTHER)).allowed


async def test_successful_evaluations_free_their_memory() -> None:
    engine = await WasmEngine.load(read_module(None), compile_data({"eksgateway": CONTENT}), timeout_s=2)
    try:
        sizes = []
        for number in range(3000):
            size = number % 300
            groups = [f"corp:{each}" for each in range(size)]
            await engine.decide(at_request(caller("jwt:corp:a", *groups), reason="x" * size))
            if number in (299, 2999):
                sizes.append(engine._policy._idle[0].memory_bytes)  # noqa: SLF001 - not visible otherwise
        assert sizes[0] == sizes[1]
    finally:
        await engine.close()
