"""The two reads of a cancel in the budget: one turn, two tokens, two threads."""

from __future__ import annotations

import asyncio

import pytest

from eksgateway.eks.target_budget import Lane
from eksgateway.errors import EksNotFound, EksUnavailable, GatewayError, Overloaded, TargetMismatch
from support.budget import HERE, RATE, BudgetHarness

ALL = 2 * RATE  # the reserve too


async def leave(harness: BudgetHarness, tokens: int) -> None:
    """Spend all tokens but these."""
    for _ in range(ALL - tokens):
        harness.start(Lane.FORWARD, "spent")
    await harness.clock.advance()
    harness.called.clear()


async def test_both_reads_of_a_cancel_are_under_way_at_once(harness: BudgetHarness) -> None:
    harness.answer.clear()
    reads = harness.start_reads()
    await harness.clock.advance()
    assert harness.order() == [("k", 1), ("k", 2)]
    assert not reads.done()


async def test_both_reads_of_a_cancel_take_two_tokens(harness: BudgetHarness) -> None:
    await harness.start_reads()
    for number in range(ALL):
        harness.start(Lane.FORWARD, number)
    await harness.clock.advance()
    assert len(harness.order(Lane.FORWARD)) == ALL - 2


async def test_both_reads_of_a_cancel_wait_for_both_tokens_and_hold_none(harness: BudgetHarness) -> None:
    """Another cancel's CancelUpdate takes the token that is there."""
    await leave(harness, 1)
    harness.start_reads()
    await harness.clock.advance()
    assert harness.order() == []
    harness.start(Lane.FORWARD, "forward")
    await harness.clock.advance()
    assert harness.order() == ["forward"]
    await harness.clock.advance(1.9 / RATE)
    assert harness.order() == ["forward"]
    await harness.clock.advance(0.2 / RATE)
    assert harness.order() == ["forward", ("k", 1), ("k", 2)]


async def test_a_forward_does_not_wait_for_their_second_token(harness: BudgetHarness) -> None:
    await leave(harness, 0)
    harness.start_reads()
    await harness.clock.advance()
    harness.start(Lane.FORWARD, "forward")
    await harness.clock.advance(1.1 / RATE)
    assert harness.order() == ["forward"]


async def test_a_wait_counts_both_calls(harness: BudgetHarness) -> None:
    """The calls of ten seconds may wait."""
    await leave(harness, 0)
    waiting = [harness.start_reads(number) for number in range(RATE * 5 + 1)]
    await harness.clock.advance()
    assert [task for task in waiting if task.done()] == waiting[-1:]
    with pytest.raises(Overloaded):
        await waiting[-1]


@pytest.mark.parametrize(
    ("first", "second", "raised"),
    [
        pytest.param(TargetMismatch(), EksNotFound(), TargetMismatch, id="both"),
        pytest.param(None, EksNotFound(), EksNotFound, id="second"),
        pytest.param(EksUnavailable(), EksNotFound(), EksUnavailable, id="first-fails-later"),
    ],
)
async def test_the_error_of_the_first_read_is_raised(
    harness: BudgetHarness, first: GatewayError | None, second: GatewayError, raised: type[GatewayError]
) -> None:
    """Also if it comes last, after a second try."""
    reads = harness.start_reads(first=first, second=second)
    await harness.clock.advance(1)
    with pytest.raises(raised):
        await reads


async def test_the_second_ends_when_the_first_fails(slow: BudgetHarness) -> None:
    """Its thread is free at once."""

    async def fail() -> None:
        await asyncio.sleep(0)
        raise EksNotFound

    with pytest.raises(EksNotFound):
        await slow.budget.call_both(HERE, "k", fail, slow.work(Lane.CANCEL, "second"))
    assert slow.order() == ["second"]
    await expect_seven_free_threads(slow)


async def test_the_second_is_not_made_if_the_first_fails_at_once(harness: BudgetHarness) -> None:
    """It gives its token back."""

    async def fail() -> None:
        raise EksNotFound

    for _ in range(ALL - 1):
        with pytest.raises(EksNotFound):
            await harness.budget.call_both(HERE, "k", fail, harness.work(Lane.CANCEL, "second"))
    assert harness.order() == []  # and none has waited for a token


async def test_each_second_try_takes_one_token(harness: BudgetHarness) -> None:
    await leave(harness, 2)
    reads = harness.start_reads(first=EksUnavailable())
    await harness.clock.advance(0.9 / RATE)
    assert harness.order() == [("k", 1), ("k", 2)]
    await harness.clock.advance(0.3 / RATE)
    assert harness.order() == [("k", 1), ("k", 2), ("k", 1)]
    with pytest.raises(EksUnavailable):
        await reads


async def test_a_caller_that_leaves_while_they_wait_takes_no_token(harness: BudgetHarness) -> None:
    await leave(harness, 0)
    gone = harness.start_reads()
    await harness.clock.advance(0.1)
    gone.cancel()
    await harness.clock.advance(10)
    for number in range(ALL + 1):
        harness.start(Lane.FORWARD, number)
    await harness.clock.advance()
    assert len(harness.called) == len(harness.order(Lane.FORWARD)) == ALL


async def test_a_caller_that_leaves_at_their_turn_takes_no_token_and_no_thread() -> None:
    harness = BudgetHarness(threads=1)

    async def work() -> None:
        await harness.answer.wait()
        asyncio.get_running_loop().call_soon(gone.cancel)  # runs between the turn and the wake-up

    harness.answer.clear()
    running = asyncio.create_task(harness.budget.call(Lane.CANCEL, HERE, "first", work))
    await harness.clock.advance()
    gone = harness.start_reads()
    await harness.clock.advance()
    harness.answer.set()
    await harness.clock.advance()
    assert running.done()
    assert gone.cancelled()
    for number in range(ALL):
        harness.start(Lane.FORWARD, number)
    await harness.clock.advance()
    assert len(harness.called) == len(harness.order(Lane.FORWARD)) == ALL - 1
    for task in harness.tasks:
        task.cancel()
    await asyncio.wait(harness.tasks)
    await harness.budget.close()


async def test_threads_are_free_after_a_caller_left(slow: BudgetHarness) -> None:
    """In the middle of both reads. No task is left."""
    before = asyncio.all_tasks()
    reads = [slow.start_reads(number) for number in range(5)]
    await slow.clock.advance()
    assert len(slow.called) == 6  # of the seven for the reads of cancels
    for task in reads:
        task.cancel()
    await asyncio.wait(reads)
    assert asyncio.all_tasks() == before
    await expect_seven_free_threads(slow)


async def test_one_thread_is_enough() -> None:
    harness = BudgetHarness(rate=10_000, threads=1)
    await asyncio.gather(*(harness.start_reads(number) for number in range(3)))
    assert len(harness.called) == 6


async def expect_seven_free_threads(slow: BudgetHarness) -> None:
    slow.called.clear()
    for number in range(20):
        slow.start(Lane.CANCEL, number)
    await slow.clock.advance()
    assert len(slow.called) == 7
