"""Admission: seats are few while the processor is busy, and each flow has a share of them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from eksgateway.errors import Overloaded
from eksgateway.rpc.admission import SEATS, SEATS_ALONE, Admission
from eksgateway.rpc.queues import Band, Flow, Seat

GREEDY = Flow("greedy", Band.CANCEL)
STRANGER = Flow("ipv4:127.0.0.1:40000", Band.STRANGER)


class Processor:
    """Idle on demand."""

    def __init__(self) -> None:
        self.idle = False
        self.checks = 0

    def is_idle(self) -> bool:
        self.checks += 1
        return self.idle


class Calls:
    """Calls that enter, and are served until the test lets them leave."""

    def __init__(self, *, max_waiting: int = 1000, patience: float = 60, alone_after: float = 60) -> None:
        self.processor = Processor()
        self.refused: list[Flow] = []
        self.admission = Admission(
            max_waiting,
            self.processor.is_idle,
            self.refused.append,
            patience=patience,
            alone_after=alone_after,
        )
        self.served: list[tuple[Flow, Seat]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def _call(self, flow: Flow, max_held: int) -> None:
        seat = await self.admission.enter(flow, max_held)
        self.served.append((flow, seat))

    def come(self, flow: Flow, *, max_held: int = 1000) -> asyncio.Task[None]:
        task = asyncio.create_task(self._call(flow, max_held))
        self.tasks.append(task)
        return task

    def leave(self, place: int = 0) -> Flow:
        """End the call at this place of those being served; returns its flow."""
        flow, seat = self.served.pop(place)
        self.admission.leave(seat)
        return flow

    @property
    def keys(self) -> Counter[str]:
        return Counter(flow.key for flow, _ in self.served)


async def run_tasks() -> None:
    """Let every task run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(calls: Calls, served: int) -> None:
    async with asyncio.timeout(20):
        while len(calls.served) < served:  # noqa: ASYNC110  the timer is the event loop's own
            await asyncio.sleep(0.001)


async def test_enter_seats_two_calls_of_a_caller_and_one_of_a_stranger_while_the_processor_is_busy() -> None:
    calls = Calls()
    for _ in range(10):
        calls.come(GREEDY)
        calls.come(STRANGER)
    await run_tasks()
    assert calls.keys == {GREEDY.key: 2, STRANGER.key: 1}
    calls.leave()
    await run_tasks()
    assert calls.keys == {GREEDY.key: 2, STRANGER.key: 1}


async def test_enter_serves_a_caller_at_once_that_has_no_call_being_served() -> None:
    """It does not queue, even while all seats are held."""
    calls = Calls()
    for number in range(SEATS):
        for _ in range(100):
            calls.come(Flow(f"greedy-{number}", Band.CANCEL))
    await run_tasks()
    calls.come(Flow("other", Band.READ))
    await run_tasks()
    assert calls.keys["other"] == 1


async def test_enter_queues_strangers() -> None:
    """Connections cost nothing to make, so their calls wait for their turns."""
    calls = Calls()
    for number in range(100):
        calls.come(Flow(f"ipv4:127.0.0.1:{number}", Band.STRANGER))
    await asyncio.sleep(0)  # no time passes: later some would be served because no seat becomes free
    assert len(calls.served) == SEATS


async def test_a_caller_alone_has_more_seats_until_another_call_comes() -> None:
    calls = Calls(alone_after=0.05)
    for _ in range(100):
        calls.come(GREEDY)
    await run_tasks()
    assert calls.keys == {GREEDY.key: SEATS_ALONE}
    calls.leave()
    await run_tasks()
    assert calls.keys == {GREEDY.key: SEATS_ALONE}
    for _ in range(3):
        calls.come(Flow("other", Band.READ))
    await run_tasks()
    assert calls.keys == {GREEDY.key: SEATS_ALONE, "other": 1}  # it does not wait for the others to end
    while calls.keys[GREEDY.key] > 2:
        assert calls.leave() == GREEDY
        await run_tasks()
    assert calls.keys == {GREEDY.key: 2, "other": 2}
    while calls.keys["other"]:
        calls.leave([flow.key for flow, _ in calls.served].index("other"))
        await run_tasks()
    await until(calls, SEATS_ALONE)


async def test_a_caller_has_not_more_seats_between_single_calls_of_another() -> None:
    calls = Calls()
    for _ in range(100):
        calls.come(GREEDY)
        calls.come(Flow("other", Band.READ))
    await run_tasks()
    while calls.keys["other"]:
        calls.leave([flow.key for flow, _ in calls.served].index("other"))
        await run_tasks()
    assert calls.keys == {GREEDY.key: 2}


async def test_leave_serves_another_caller_before_more_of_the_same() -> None:
    calls = Calls()
    for _ in range(50):
        calls.come(GREEDY)
    for _ in range(50):
        calls.come(Flow("other", Band.CANCEL))
    await run_tasks()
    left = []
    while calls.served:
        left.append(calls.leave().key)
        await run_tasks()
    assert len(left) == 100
    assert abs(Counter(left[SEATS_ALONE : SEATS_ALONE + 50])["other"] - 25) <= 2


async def test_an_idle_processor_serves_more_calls_than_there_are_seats() -> None:
    """Calls that wait for EKS hold seats without using the processor."""
    calls = Calls()
    for _ in range(30):
        calls.come(GREEDY)
    await run_tasks()
    assert len(calls.served) == SEATS_ALONE
    calls.processor.idle = True
    await until(calls, 30)
    checks = calls.processor.checks
    await run_tasks()
    assert calls.processor.checks == checks  # it is not checked while no call waits


@pytest.mark.parametrize("flow", [Flow("other", Band.CANCEL), STRANGER])
async def test_idle_calls_in_all_seats_do_not_keep_other_flows_out(flow: Flow) -> None:
    """They wait for a message that never comes, while other work keeps the processor busy."""
    calls = Calls()
    calls.processor.idle = True
    for number in range(20):
        calls.come(Flow(f"silent-{number}", Band.READ))
        await until(calls, number + 1)
    calls.processor.idle = False
    for _ in range(5):
        calls.come(flow)
    for _ in range(5):
        await until(calls, 21)
        assert calls.leave(-1) == flow


async def test_move_frees_the_seat_of_a_connection() -> None:
    """The call then counts for its caller."""
    calls = Calls()
    for _ in range(3):
        calls.come(STRANGER, max_held=3)
    await run_tasks()
    (_, seat) = calls.served[0]
    calls.admission.move(seat, GREEDY)
    await run_tasks()
    assert len(calls.served) == 2
    calls.come(STRANGER, max_held=3)
    with pytest.raises(Overloaded):
        await calls.come(GREEDY, max_held=1)
    for _ in range(4):
        await until(calls, 1)
        calls.leave()
        await run_tasks()
    assert (calls.admission.serving, calls.admission.waiting) == (0, 0)
    calls.come(GREEDY, max_held=1)  # it holds nothing any more
    await until(calls, 1)


async def test_enter_refuses_calls_beyond_max_held() -> None:
    """Waiting and served calls count."""
    calls = Calls()
    for _ in range(5):
        calls.come(GREEDY, max_held=5)
    await run_tasks()
    with pytest.raises(Overloaded) as error:
        await calls.come(Flow(GREEDY.key, Band.READ), max_held=5)
    assert error.value.retry_after is not None
    assert calls.refused == [Flow(GREEDY.key, Band.READ)]
    calls.come(Flow("other", Band.READ), max_held=5)
    await run_tasks()
    assert calls.keys["other"] == 1
    calls.leave()
    calls.come(GREEDY, max_held=5)
    await run_tasks()
    assert len(calls.refused) == 1


async def test_enter_drops_the_newest_call_of_the_longest_queue_when_all_places_are_taken() -> None:
    """A flood that fills the queues does not keep other flows out."""
    calls = Calls(max_waiting=20)
    flood = [calls.come(GREEDY) for _ in range(SEATS_ALONE + 20)]
    others = [calls.come(Flow(f"ipv4:127.0.0.1:{number}", Band.STRANGER)) for number in range(6)]
    await run_tasks()
    assert [task.done() and task.exception() is not None for task in flood] == (
        [False] * (SEATS_ALONE + 14) + [True] * 6
    )
    assert all(isinstance(task.exception(), Overloaded) for task in flood[SEATS_ALONE + 14 :])
    assert not any(task.done() and task.exception() for task in others)
    assert calls.refused == [GREEDY] * 6
    with pytest.raises(Overloaded):
        await calls.come(GREEDY)


async def test_enter_refuses_a_call_that_waits_too_long() -> None:
    calls = Calls(patience=0.01)
    for _ in range(SEATS_ALONE):
        calls.come(GREEDY)
    with pytest.raises(Overloaded):
        await calls.come(GREEDY)
    assert len(calls.served) == SEATS_ALONE


async def test_cancelled_calls_release_what_they_hold() -> None:
    """Clients leave while their calls wait, as they get their turn, or while they are served."""
    chance = random.Random(7)
    calls = Calls()
    flows = [GREEDY, STRANGER, Flow("other", Band.READ), Flow("greedy", Band.READ)]
    for _ in range(2000):
        event = chance.random()
        if event < 0.4:
            calls.come(chance.choice(flows))
        elif event < 0.6 and calls.served:
            calls.leave(chance.randrange(len(calls.served)))
        elif event < 0.9 and calls.tasks:
            calls.tasks.pop(chance.randrange(len(calls.tasks))).cancel()
        else:
            await asyncio.sleep(0)
    for task in calls.tasks:
        task.cancel()
    await run_tasks()
    while calls.served:
        calls.leave()
    await run_tasks()
    assert not calls.served
    for flow in flows:  # all seats and shares are free again
        calls.come(flow, max_held=1 if flow is not flows[3] else 2)
    await until(calls, len(flows))
    assert not calls.refused


async def test_refusals_of_a_flood_are_delayed_and_those_of_others_are_not() -> None:
    """A flood sends the next call as soon as one is refused."""
    calls = Calls()
    flood = [calls.come(GREEDY, max_held=0) for _ in range(200)]
    await run_tasks()
    at_once = sum(task.done() for task in flood)
    assert 0 < at_once < 50
    with pytest.raises(Overloaded):
        await calls.come(Flow("other", Band.READ), max_held=0)
    assert sum(task.done() for task in flood) < 100
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    assert len(calls.refused) == 201


async def test_refusals_are_immediate_again_after_a_flood() -> None:
    """The delay does not add up over all refused calls of the flood."""
    calls = Calls()
    flood = [calls.come(GREEDY, max_held=0) for _ in range(3000)]  # a minute of refusals, at that pace
    await run_tasks()
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    async with asyncio.timeout(20):
        while True:
            refused = calls.come(GREEDY, max_held=0)
            await asyncio.wait((refused,), timeout=0.05)
            if refused.done():
                break
            refused.cancel()
    with pytest.raises(Overloaded):
        await refused


async def test_unauthenticated_connections_are_served_one_each_tick() -> None:
    """A flood of strangers replaces each refused call. Callers do not wait for the tick."""
    calls = Calls()
    strangers = [Flow(f"ipv4:127.0.0.1:{number}", Band.STRANGER) for number in range(3)]
    for stranger in strangers:
        for _ in range(5):
            calls.come(stranger)
    calls.come(GREEDY)
    for _ in range(3):
        calls.come(GREEDY)
    await run_tasks()
    # On a loaded machine a tick may have come already.
    assert calls.processor.checks or calls.keys == {**{flow.key: 1 for flow in strangers}, GREEDY.key: 1}
    for flow, seat in [each for each in calls.served if each[0] in strangers]:
        calls.served.remove((flow, seat))
        calls.admission.leave(seat)
    await run_tasks()
    assert calls.processor.checks or calls.keys == {GREEDY.key: 2}
    await until(calls, 5)
    assert calls.keys == {**{flow.key: 1 for flow in strangers}, GREEDY.key: 2}
    assert calls.processor.checks >= 3


async def test_a_connection_with_a_verified_call_waits_for_no_tick() -> None:
    calls = Calls()
    for _ in range(3):
        calls.come(STRANGER)
    await run_tasks()
    _, seat = calls.served[0]
    calls.admission.move(seat, GREEDY)
    await run_tasks()
    assert calls.keys[STRANGER.key] == 2  # the first one counted as a stranger's when it entered
    assert not calls.processor.checks
