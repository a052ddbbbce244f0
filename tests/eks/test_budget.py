"""The order of calls to EKS, on a clock that only the test advances."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from eksgateway.eks.budget import Budget
from eksgateway.eks.target_budget import PATIENCE_S, Lane, PendingCall
from eksgateway.errors import DecisionStale, Draining, EksNotFound, EksThrottled, EksUnavailable, Overloaded
from eksgateway.model import Target
from support.clock import FakeClock
from support.logs import capture_logs

RATE = 5
HERE, THERE = Target("111122223333", "us-east-1"), Target("111122223333", "eu-west-1")


@dataclass
class Desk:
    """A budget and the calls that it made, in order. The fixture ends every task that starts here."""

    clock: FakeClock = field(default_factory=FakeClock)
    called: list[tuple[Lane, Hashable, float]] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    rate: float = RATE
    threads: int = 1000
    answer: asyncio.Event = field(default_factory=asyncio.Event)  # EKS answers once it is set
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.answer.set()
        self.budget = Budget(self.rate, self.clock, self.threads)

    def work(
        self, lane: Lane, key: Hashable, error: Exception | None = None
    ) -> Callable[[], Awaitable[None]]:
        async def call() -> None:
            self.called.append((lane, key, self.clock.monotonic()))
            await self.answer.wait()
            if error is not None:
                raise error

        return call

    def start(
        self,
        lane: Lane,
        key: Hashable = "k",
        target: Target = HERE,
        until: float = float("inf"),
        error: Exception | None = None,
    ) -> asyncio.Task[None]:
        """Start a call, made when its turn comes."""
        work = self.work(lane, key, error)
        task = asyncio.create_task(self.budget.call(lane, target, key, work, until))
        self.tasks.append(task)
        return task

    def start_pending(self, lane: Lane, key: Hashable, who: Hashable = "k") -> PendingCall:
        """Start a call that others can join until its turn comes."""
        waiting = PendingCall(lane, [who])
        self.tasks.append(asyncio.create_task(self.budget.call_pending(waiting, HERE, self.work(lane, key))))
        return waiting

    async def poll(self, key: Hashable) -> None:
        """Poll without a pause."""
        while True:
            await self.budget.call(Lane.POLL, HERE, key, self.work(Lane.POLL, key))

    async def spend(self) -> None:
        """Use up the tokens saved for reads."""
        for _ in range(RATE):
            self.start(Lane.POLL, "spent")
        await self.clock.advance()
        self.called.clear()

    def order(self, *lanes: Lane) -> list[Hashable]:
        """The keys that were called, in order."""
        return [key for lane, key, _ in self.called if not lanes or lane in lanes]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    for task in desk.tasks:
        task.cancel()
    await asyncio.gather(*desk.tasks, return_exceptions=True)
    await desk.budget.close()
    await desk.clock.advance()
    assert desk.clock.sleepers == 0


async def test_hundreds_of_polls_are_served_at_equal_intervals(desk: Desk) -> None:
    """With 400 polls at five calls a second, each is served every 80 s."""
    await desk.spend()
    for number in range(400):
        desk.tasks.append(asyncio.create_task(desk.poll(number)))
    await desk.clock.advance(320)
    assert len(desk.called) == pytest.approx(RATE * 320, abs=1)
    counts = Counter(desk.order())
    assert len(counts) == 400
    assert max(counts.values()) - min(counts.values()) <= 1
    times: dict[Hashable, list[float]] = {}
    for _, key, time in desk.called:
        times.setdefault(key, []).append(time)
    gaps = [after - before for each in times.values() for before, after in pairwise(each)]
    assert max(gaps) == pytest.approx(80)
    assert min(gaps) == pytest.approx(80)


@pytest.mark.parametrize("lane", [Lane.READ, Lane.POLL, Lane.CANCEL], ids=lambda lane: lane.name)
async def test_calls_of_one_caller_do_not_delay_another_caller(desk: Desk, lane: Lane) -> None:
    """With twenty calls of one caller waiting, another caller's is served second at the latest."""
    for _ in range(2 * RATE):  # the reserve too
        await desk.budget.call(Lane.FORWARD, HERE, "spent", desk.work(lane, "spent"))
    for _ in range(20):
        desk.start(lane, "crowd")
    await desk.clock.advance()
    desk.start(lane, "one")
    await desk.clock.advance(10)
    assert "one" in desk.order(lane)[2 * RATE :][:2]


async def test_each_target_has_its_own_budget(desk: Desk) -> None:
    await desk.spend()
    here, there = desk.start(Lane.POLL), desk.start(Lane.POLL, target=THERE)
    await desk.clock.advance()
    assert (here.done(), there.done()) == (False, True)


async def test_polls_and_reads_take_turns(desk: Desk) -> None:
    await desk.spend()
    for number in range(100):
        desk.start(Lane.POLL, number)
    await desk.clock.advance()
    for number in range(20):
        desk.start(Lane.READ, number)
    await desk.clock.advance(4)
    lanes = [lane for lane, _, _ in desk.called]
    assert len(lanes) == 20
    assert all(one is not other for one, other in pairwise(lanes))


async def test_the_calls_of_a_cancel_do_not_wait_for_polls_and_reads(desk: Desk) -> None:
    for number in range(500):
        desk.start(Lane.POLL, number)
        desk.start(Lane.READ, number)
    await desk.clock.advance(1)
    now, before = desk.clock.monotonic(), len(desk.called)
    for _ in range(2):
        await desk.budget.call(Lane.CANCEL, HERE, "k", desk.work(Lane.CANCEL, "k"))
    await desk.budget.call(Lane.FORWARD, HERE, "k", desk.work(Lane.FORWARD, "k"))
    assert [lane for lane, _, _ in desk.called[before:]] == [Lane.CANCEL, Lane.CANCEL, Lane.FORWARD]
    assert desk.clock.monotonic() == now


async def test_cancels_get_every_token_and_forwards_go_first(desk: Desk) -> None:
    """No other call is made while a cancel waits."""
    for number in range(20):
        desk.start(Lane.CANCEL, number)
    await desk.clock.advance()
    assert len(desk.called) == 2 * RATE  # all there is, the reserve included
    desk.start(Lane.POLL)
    desk.start(Lane.FORWARD, "decided")
    await desk.clock.advance(2.2)
    assert len(desk.called) == 4 * RATE + 1
    assert desk.called[2 * RATE][:2] == (Lane.FORWARD, "decided")
    assert not desk.order(Lane.POLL)
    await desk.clock.advance(2)
    assert desk.order(Lane.POLL) == ["k"]


async def test_a_read_whose_turn_comes_too_late_is_overloaded_at_once(desk: Desk) -> None:
    """The calls of ten seconds may wait. The error of the next one has the time to retry after."""
    await desk.spend()
    waiting = [desk.start(Lane.READ, number) for number in range(60)]
    await desk.clock.advance()
    refused = [task for task in waiting if task.done()]
    assert refused == waiting[RATE * 10 :]
    with pytest.raises(Overloaded) as error:
        await refused[0]
    assert error.value.retry_after == pytest.approx(10, rel=0.1)
    await desk.clock.advance(10.1)
    assert len(desk.called) == pytest.approx(RATE * 10, abs=1)


async def test_a_read_is_overloaded_when_forwards_take_every_token(desk: Desk) -> None:
    """It makes no call."""
    await desk.spend()
    asked = desk.start(Lane.READ)
    for number in range(100):
        desk.start(Lane.FORWARD, number)
    await desk.clock.advance(PATIENCE_S + 1)
    with pytest.raises(Overloaded) as error:
        await asked
    assert error.value.retry_after
    assert not desk.order(Lane.READ)


async def test_a_forward_waits_until_its_decision_is_stale(desk: Desk) -> None:
    """Then it is not sent."""
    until = desk.clock.monotonic() + 2
    forwards = [desk.start(Lane.FORWARD, number, until=until) for number in range(30)]
    await desk.clock.advance(3)
    assert len(desk.called) == pytest.approx(2 * RATE + 2 * RATE, abs=1)
    with pytest.raises(DecisionStale):
        await forwards[-1]


async def test_cancelled_calls_leave_nothing_in_the_queues(desk: Desk) -> None:
    await desk.spend()
    for number in range(600):
        gone = [desk.start(Lane.POLL, (number, each)) for each in range(100)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        desk.tasks.clear()
    last = desk.start(Lane.POLL, "last")
    await desk.clock.advance(0.21)
    assert last.done()
    assert desk.order() == ["last"]


async def test_join_moves_a_poll_to_the_lane_of_reads(desk: Desk) -> None:
    """It is called once."""
    await desk.spend()
    for number in range(100):
        desk.start(Lane.POLL, number)
    polled = desk.start_pending(Lane.POLL, "polled")
    await desk.clock.advance()
    desk.budget.join(polled, HERE, "ann")
    await desk.clock.advance(0.5)
    assert "polled" in desk.order()
    await desk.clock.advance(25)
    assert Counter(desk.order())["polled"] == 1


@pytest.mark.parametrize("lane", [Lane.READ, Lane.CANCEL, Lane.FORWARD], ids=lambda lane: lane.name)
async def test_a_lane_filled_by_one_caller_has_room_for_others(desk: Desk, lane: Lane) -> None:
    """The first caller is refused beyond its own limit. The second is served second."""
    for _ in range(2 * RATE):  # the reserve too
        await desk.budget.call(Lane.FORWARD, HERE, "spent", desk.work(Lane.FORWARD, "spent"))
    desk.called.clear()
    greedy = [desk.start(lane, "greedy") for _ in range(RATE * 10 + 20)]
    await desk.clock.advance()
    refused = [task for task in greedy if task.done()]
    assert len(refused) == (0 if lane is Lane.FORWARD else 20)
    other = desk.start(lane, "other")
    await desk.clock.advance(2)
    assert other.done()
    assert desk.order(lane)[:2] == ["greedy", "other"]


async def test_join_serves_a_waiting_call_at_the_turn_of_the_new_caller(desk: Desk) -> None:
    await desk.spend()
    for _ in range(30):
        desk.start(Lane.READ, "greedy")
    last = desk.start_pending(Lane.READ, "wanted", "greedy")
    await desk.clock.advance()
    desk.budget.join(last, HERE, "other")
    desk.budget.join(last, HERE, "other")
    await desk.clock.advance(0.5)
    assert "wanted" in desk.order()
    await desk.clock.advance(10)
    assert len(desk.called) == 31


async def test_join_raises_overloaded_when_the_queue_of_the_caller_is_full(desk: Desk) -> None:
    """The call that it wanted to join goes on."""
    await desk.spend()
    wanted = desk.start_pending(Lane.READ, "wanted", "ann")
    for _ in range(RATE * 10 + 1):
        desk.start(Lane.READ, "greedy")
    await desk.clock.advance()
    with pytest.raises(Overloaded):
        desk.budget.join(wanted, HERE, "greedy")
    await desk.clock.advance(1)
    assert "wanted" in desk.order()


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
async def test_reads_of_callers_are_tried_twice(desk: Desk, lane: Lane, error: Exception, tried: int) -> None:
    """Each try takes a token."""
    task = desk.start(lane, error=error)
    await desk.clock.advance(1)
    with pytest.raises(type(error)):
        await task
    assert len(desk.called) == tried
    desk.called.clear()
    await desk.spend()


async def test_a_read_returns_the_answer_of_the_second_try(desk: Desk) -> None:
    faults = [EksUnavailable()]

    async def work() -> str:
        if faults:
            raise faults.pop()
        return "answer"

    task = asyncio.create_task(desk.budget.call(Lane.READ, HERE, "k", work))
    await desk.clock.advance(1)
    assert await task == "answer"


async def test_throttling_halves_the_rate_until_it_recovers(desk: Desk) -> None:
    """The rate is full again after a minute. One event is logged."""
    await desk.spend()
    with capture_logs() as logs:
        for number in range(1000):
            desk.start(Lane.POLL, number, error=EksThrottled() if number == 0 else None)
        await desk.clock.advance(1)
    assert [line["calls_per_s"] for line in logs if line["event"] == "eks.throttled"] == [RATE / 2]

    async def count_calls(seconds: float) -> int:
        before = len(desk.called)
        await desk.clock.advance(seconds)
        return len(desk.called) - before

    assert await count_calls(4) == pytest.approx(4 * RATE / 2, abs=2)
    await desk.clock.advance(60)
    assert await count_calls(10) == pytest.approx(10 * RATE, abs=1)


async def test_close_raises_draining_for_waiting_calls(desk: Desk) -> None:
    """No timer is left."""
    await desk.spend()
    waiting = [desk.start(lane) for lane in (Lane.READ, Lane.POLL)]
    await desk.clock.advance()
    await desk.budget.close()
    for task in waiting:
        with pytest.raises(Draining):
            await task


@pytest.fixture
async def slow() -> AsyncIterator[Desk]:
    """Eight threads, enough tokens, and an EKS that does not answer yet."""
    desk = Desk(rate=10_000, threads=8)
    desk.answer.clear()
    yield desk
    for task in desk.tasks:
        task.cancel()
    await asyncio.gather(*desk.tasks, return_exceptions=True)


async def test_a_caller_that_fills_the_threads_does_not_delay_another(slow: Desk) -> None:
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


async def test_reads_leave_threads_to_cancels(slow: Desk) -> None:
    """Six of eight serve other reads, one more the reads of cancels, and the last one CancelUpdate."""
    for lane, most in ((Lane.POLL, 3), (Lane.READ, 6), (Lane.CANCEL, 7), (Lane.FORWARD, 8)):
        for number in range(20 if lane is not Lane.POLL else 3):
            slow.start(lane, number)
        await slow.clock.advance()
        assert len(slow.called) == most, lane


async def test_a_thread_is_free_after_success_failure_and_cancellation(slow: Desk) -> None:
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
    desk = Desk(rate=10_000, threads=1)
    await asyncio.gather(*(desk.start(lane) for lane in Lane))
    assert len(desk.called) == len(Lane)
