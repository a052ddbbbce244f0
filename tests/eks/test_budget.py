"""The order of calls to EKS, on a clock that only the test advances."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Hashable
from itertools import pairwise

import pytest

from eksgateway.eks.budget import TurnUnused
from eksgateway.eks.target_budget import TURN_WAIT_S, Lane
from eksgateway.errors import DecisionStale, Draining, EksNotFound, EksThrottled, EksUnavailable, Overloaded
from support.budget import HERE, RATE, THERE, BudgetHarness
from support.logs import capture_logs


async def test_hundreds_of_polls_are_served_at_equal_intervals(harness: BudgetHarness) -> None:
    """With 400 polls at five calls a second, each is served every 80 s."""
    await harness.spend()
    for number in range(400):
        harness.tasks.append(asyncio.create_task(harness.poll(number)))
    await harness.clock.advance(320)
    assert len(harness.called) == pytest.approx(RATE * 320, abs=1)
    counts = Counter(harness.order())
    assert len(counts) == 400
    assert max(counts.values()) - min(counts.values()) <= 1
    times: dict[Hashable, list[float]] = {}
    for _, key, time in harness.called:
        times.setdefault(key, []).append(time)
    gaps = [after - before for each in times.values() for before, after in pairwise(each)]
    assert max(gaps) == pytest.approx(80)
    assert min(gaps) == pytest.approx(80)


@pytest.mark.parametrize("lane", [Lane.READ, Lane.POLL, Lane.CANCEL], ids=lambda lane: lane.name)
async def test_calls_of_one_caller_do_not_delay_another_caller(harness: BudgetHarness, lane: Lane) -> None:
    """With twenty calls of one caller waiting, another caller's is served second at the latest."""
    for _ in range(2 * RATE):  # the reserve too
        await harness.budget.call(Lane.FORWARD, HERE, "spent", harness.work(lane, "spent"))
    for _ in range(20):
        harness.start(lane, "crowd")
    await harness.clock.advance()
    harness.start(lane, "one")
    await harness.clock.advance(10)
    assert "one" in harness.order(lane)[2 * RATE :][:2]


async def test_each_target_has_its_own_budget(harness: BudgetHarness) -> None:
    await harness.spend()
    here, there = harness.start(Lane.POLL), harness.start(Lane.POLL, target=THERE)
    await harness.clock.advance()
    assert (here.done(), there.done()) == (False, True)


async def test_polls_and_reads_take_turns(harness: BudgetHarness) -> None:
    await harness.spend()
    for number in range(100):
        harness.start(Lane.POLL, number)
    await harness.clock.advance()
    for number in range(20):
        harness.start(Lane.READ, number)
    await harness.clock.advance(4)
    lanes = [lane for lane, _, _ in harness.called]
    assert len(lanes) == 20
    assert all(one is not other for one, other in pairwise(lanes))


async def test_the_calls_of_a_cancel_do_not_wait_for_polls_and_reads(harness: BudgetHarness) -> None:
    for number in range(500):
        harness.start(Lane.POLL, number)
        harness.start(Lane.READ, number)
    await harness.clock.advance(1)
    now, before = harness.clock.monotonic(), len(harness.called)
    for _ in range(2):
        await harness.budget.call(Lane.CANCEL, HERE, "k", harness.work(Lane.CANCEL, "k"))
    await harness.budget.call(Lane.FORWARD, HERE, "k", harness.work(Lane.FORWARD, "k"))
    assert [lane for lane, _, _ in harness.called[before:]] == [Lane.CANCEL, Lane.CANCEL, Lane.FORWARD]
    assert harness.clock.monotonic() == now


async def test_cancels_get_every_token_and_forwards_go_first(harness: BudgetHarness) -> None:
    """No other call is made while a cancel waits."""
    for number in range(20):
        harness.start(Lane.CANCEL, number)
    await harness.clock.advance()
    assert len(harness.called) == 2 * RATE  # all there is, the reserve included
    harness.start(Lane.POLL)
    harness.start(Lane.FORWARD, "decided")
    await harness.clock.advance(2.2)
    assert len(harness.called) == 4 * RATE + 1
    assert harness.called[2 * RATE][:2] == (Lane.FORWARD, "decided")
    assert not harness.order(Lane.POLL)
    await harness.clock.advance(2)
    assert harness.order(Lane.POLL) == ["k"]


async def test_a_read_whose_turn_comes_too_late_is_overloaded_at_once(harness: BudgetHarness) -> None:
    """The calls of ten seconds may wait. The error of the next one has the time to retry after."""
    await harness.spend()
    waiting = [harness.start(Lane.READ, number) for number in range(60)]
    await harness.clock.advance()
    refused = [task for task in waiting if task.done()]
    assert refused == waiting[RATE * 10 :]
    with pytest.raises(Overloaded) as error:
        await refused[0]
    assert error.value.retry_after == pytest.approx(10, rel=0.1)
    await harness.clock.advance(10.1)
    assert len(harness.called) == pytest.approx(RATE * 10, abs=1)


async def test_a_read_is_overloaded_when_forwards_take_every_token(harness: BudgetHarness) -> None:
    """It makes no call."""
    await harness.spend()
    read = harness.start(Lane.READ)
    for number in range(100):
        harness.start(Lane.FORWARD, number)
    await harness.clock.advance(TURN_WAIT_S + 1)
    with pytest.raises(Overloaded) as error:
        await read
    assert error.value.retry_after
    assert not harness.order(Lane.READ)


async def test_a_forward_waits_until_its_decision_is_stale(harness: BudgetHarness) -> None:
    """Then it is not sent."""
    until = harness.clock.monotonic() + 2
    forwards = [harness.start(Lane.FORWARD, number, until=until) for number in range(30)]
    await harness.clock.advance(3)
    assert len(harness.called) == pytest.approx(2 * RATE + 2 * RATE, abs=1)
    with pytest.raises(DecisionStale):
        await forwards[-1]


async def test_cancelled_calls_leave_nothing_in_the_queues(harness: BudgetHarness) -> None:
    await harness.spend()
    for number in range(600):
        gone = [harness.start(Lane.POLL, (number, each)) for each in range(100)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        harness.tasks.clear()
    last = harness.start(Lane.POLL, "last")
    await harness.clock.advance(0.21)
    assert last.done()
    assert harness.order() == ["last"]


async def test_join_moves_a_poll_to_the_lane_of_reads(harness: BudgetHarness) -> None:
    """It is called once."""
    await harness.spend()
    for number in range(100):
        harness.start(Lane.POLL, number)
    polled = harness.start_pending(Lane.POLL, "polled")
    await harness.clock.advance()
    harness.budget.join(polled, HERE, "ann")
    await harness.clock.advance(0.5)
    assert "polled" in harness.order()
    await harness.clock.advance(25)
    assert Counter(harness.order())["polled"] == 1


@pytest.mark.parametrize("lane", [Lane.READ, Lane.CANCEL, Lane.FORWARD], ids=lambda lane: lane.name)
async def test_a_lane_filled_by_one_caller_has_room_for_others(harness: BudgetHarness, lane: Lane) -> None:
    """The first caller is refused beyond its own limit. The second is served second."""
    for _ in range(2 * RATE):  # the reserve too
        await harness.budget.call(Lane.FORWARD, HERE, "spent", harness.work(Lane.FORWARD, "spent"))
    harness.called.clear()
    greedy = [harness.start(lane, "greedy") for _ in range(RATE * 10 + 20)]
    await harness.clock.advance()
    refused = [task for task in greedy if task.done()]
    assert len(refused) == (0 if lane is Lane.FORWARD else 20)
    other = harness.start(lane, "other")
    await harness.clock.advance(2)
    assert other.done()
    assert harness.order(lane)[:2] == ["greedy", "other"]


async def test_join_serves_a_waiting_call_at_the_turn_of_the_new_caller(harness: BudgetHarness) -> None:
    await harness.spend()
    for _ in range(30):
        harness.start(Lane.READ, "greedy")
    last = harness.start_pending(Lane.READ, "wanted", "greedy")
    await harness.clock.advance()
    harness.budget.join(last, HERE, "other")
    harness.budget.join(last, HERE, "other")
    await harness.clock.advance(0.5)
    assert "wanted" in harness.order()
    await harness.clock.advance(10)
    assert len(harness.called) == 31


async def test_join_raises_overloaded_when_the_queue_of_the_caller_is_full(harness: BudgetHarness) -> None:
    """The call that it wanted to join goes on."""
    await harness.spend()
    wanted = harness.start_pending(Lane.READ, "wanted", "ann")
    for _ in range(RATE * 10 + 1):
        harness.start(Lane.READ, "greedy")
    await harness.clock.advance()
    with pytest.raises(Overloaded):
        harness.budget.join(wanted, HERE, "greedy")
    await harness.clock.advance(1)
    assert "wanted" in harness.order()


@pytest.mark.parametrize(
    ("lane", "error", "tried"),
    [
        pytest.param(Lane.CANCEL, EksUnavailable(), 2, id="cancel, unavailable"),
        pytest.param(Lane.READ, EksThrottled(), 2, id="ask, throttled"),
        pytest.param(Lane.READ, EksNotFound(), 1, id="ask, refused"),
        pytest.param(Lane.POLL, EksUnavailable(), 1, id="poll"),
        pytest.param(Lane.FORWARD, EksThrottled(), 1, id="forward"),
    ],
)
async def test_reads_of_callers_are_tried_twice(
    harness: BudgetHarness, lane: Lane, error: Exception, tried: int
) -> None:
    """Each try takes a token."""
    task = harness.start(lane, error=error)
    await harness.clock.advance(1)
    with pytest.raises(type(error)):
        await task
    assert len(harness.called) == tried
    harness.called.clear()
    await harness.spend()


async def test_a_read_returns_the_answer_of_the_second_try(harness: BudgetHarness) -> None:
    faults = [EksUnavailable()]

    async def work() -> str:
        if faults:
            raise faults.pop()
        return "answer"

    task = asyncio.create_task(harness.budget.call(Lane.READ, HERE, "k", work))
    await harness.clock.advance(1)
    assert await task == "answer"


async def test_work_that_makes_no_call_gives_its_token_back(harness: BudgetHarness) -> None:
    """A call that waits gets it."""
    await harness.spend()
    for number in range(3):
        harness.start(Lane.POLL, number, error=TurnUnused() if number < 2 else None)
    await harness.clock.advance(0.21)
    assert harness.order() == [0, 1, 2]
    with pytest.raises(TurnUnused):
        await harness.tasks[-3]


async def test_throttling_halves_the_rate_until_it_recovers(harness: BudgetHarness) -> None:
    """The rate is full again after a minute. One event is logged."""
    await harness.spend()
    with capture_logs() as logs:
        for number in range(1000):
            harness.start(Lane.POLL, number, error=EksThrottled() if number == 0 else None)
        await harness.clock.advance(1)
    assert [line["calls_per_s"] for line in logs if line["event"] == "eks.throttled"] == [RATE / 2]

    async def count_calls(seconds: float) -> int:
        before = len(harness.called)
        await harness.clock.advance(seconds)
        return len(harness.called) - before

    assert await count_calls(4) == pytest.approx(4 * RATE / 2, abs=2)
    await harness.clock.advance(60)
    assert await count_calls(10) == pytest.approx(10 * RATE, abs=1)


async def test_close_raises_draining_for_waiting_calls(harness: BudgetHarness) -> None:
    """No timer is left."""
    await harness.spend()
    waiting = [harness.start(lane) for lane in (Lane.READ, Lane.POLL)]
    await harness.clock.advance()
    await harness.budget.close()
    for task in waiting:
        with pytest.raises(Draining):
            await task


async def test_a_caller_that_fills_the_threads_does_not_delay_another(slow: BudgetHarness) -> None:
    """The other caller gets every second thread that becomes free."""
    for _ in range(50):
        slow.start(Lane.CANCEL, "greedy")
    await slow.clock.advance()
    assert slow.order() == ["greedy"] * 7
    for _ in range(3):
        slow.start(Lane.CANCEL, "other")
    slow.called.clear()
    slow.answer.set()
    await slow.clock.advance()
    assert slow.order()[:6].count("other") == 3


async def test_reads_leave_threads_to_cancels(slow: BudgetHarness) -> None:
    """Six of eight serve other reads, one more the reads of cancels, and the last one CancelUpdate."""
    for lane, most in ((Lane.POLL, 3), (Lane.READ, 6), (Lane.CANCEL, 7), (Lane.FORWARD, 8)):
        for number in range(20 if lane is not Lane.POLL else 3):
            slow.start(lane, number)
        await slow.clock.advance()
        assert len(slow.called) == most, lane


async def test_a_thread_is_free_after_success_failure_and_cancellation(slow: BudgetHarness) -> None:
    tasks = [slow.start(Lane.CANCEL, number, error=EksNotFound()) for number in range(20)]
    await slow.clock.advance()
    for task in tasks[::2]:
        task.cancel()
    slow.answer.set()
    await slow.clock.advance()
    await asyncio.gather(*tasks, return_exceptions=True)
    slow.answer.clear()
    slow.called.clear()
    for number in range(20):
        slow.start(Lane.CANCEL, number)
    await slow.clock.advance()
    assert len(slow.called) == 7


async def test_a_target_with_one_thread_serves_every_lane() -> None:
    harness = BudgetHarness(rate=10_000, threads=1)
    await asyncio.gather(*(harness.start(lane) for lane in Lane))
    assert len(harness.called) == len(Lane)
