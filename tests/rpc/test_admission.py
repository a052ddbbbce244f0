"""Admission: seats are few while the processor is busy, and each flow has its share of them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from eksgateway.errors import Overloaded
from eksgateway.rpc.admission import SEATS, Admission
from eksgateway.rpc.queues import Band, Flow, Seat

GREEDY = Flow("greedy", Band.CANCEL)
STRANGER = Flow("ipv4:127.0.0.1:40000", Band.STRANGER)


class Processor:
    """Idle on demand."""

    def __init__(self) -> None:
        self.idle = False
        self.asked = 0

    def idles(self) -> bool:
        self.asked += 1
        return self.idle


class Calls:
    """Calls that enter, and are in service until they are told to leave."""

    def __init__(self, *, most: int = 1000, patience: float = 60) -> None:
        self.processor = Processor()
        self.refused: list[Flow] = []
        self.admission = Admission(most, self.processor, self.refused.append, patience=patience)
        self.served: list[tuple[Flow, Seat]] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def _call(self, flow: Flow, share: int) -> None:
        seat = await self.admission.enter(flow, share)
        self.served.append((flow, seat))

    def come(self, flow: Flow, *, share: int = 1000) -> asyncio.Task[None]:
        task = asyncio.create_task(self._call(flow, share))
        self.tasks.append(task)
        return task

    def leave(self, place: int = 0) -> Flow:
        """One of those in service leaves; whose it was."""
        flow, seat = self.served.pop(place)
        self.admission.leave(seat)
        return flow

    @property
    def keys(self) -> Counter[str]:
        return Counter(flow.key for flow, _ in self.served)


async def settled() -> None:
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
    await settled()
    assert calls.keys == {GREEDY.key: 2, STRANGER.key: 1}
    calls.leave()
    await settled()
    assert calls.keys == {GREEDY.key: 2, STRANGER.key: 1}


async def test_enter_lets_a_caller_pass_that_has_nothing_in_service() -> None:
    """It waits behind no crowd, also while every seat is held."""
    calls = Calls()
    for number in range(SEATS):
        for _ in range(100):
            calls.come(Flow(f"greedy-{number}", Band.CANCEL))
    await settled()
    calls.come(Flow("other", Band.READ))
    await settled()
    assert calls.keys["other"] == 1


async def test_enter_lets_no_stranger_pass() -> None:
    """A connection costs nothing to make, so a crowd of them waits in turn."""
    calls = Calls()
    for number in range(100):
        calls.come(Flow(f"ipv4:127.0.0.1:{number}", Band.STRANGER))
    await asyncio.sleep(0)  # no time passes: later some get seats because no other comes free
    assert len(calls.served) == SEATS


async def test_leave_serves_another_caller_before_more_of_the_same() -> None:
    calls = Calls()
    for _ in range(50):
        calls.come(GREEDY)
    for _ in range(50):
        calls.come(Flow("other", Band.CANCEL))
    await settled()
    left = []
    while calls.served:
        left.append(calls.leave().key)
        await settled()
    assert len(left) == 100
    assert abs(Counter(left[:50])["other"] - 25) <= 2


async def test_an_idle_processor_serves_more_calls_than_there_are_seats() -> None:
    """Calls that wait for EKS hold seats and no processor."""
    calls = Calls()
    for _ in range(30):
        calls.come(GREEDY)
    await settled()
    assert len(calls.served) == 2
    calls.processor.idle = True
    await until(calls, 30)
    asked = calls.processor.asked
    await settled()
    assert calls.processor.asked == asked  # while no call waits, the processor is not looked at


@pytest.mark.parametrize("flow", [Flow("other", Band.CANCEL), STRANGER])
async def test_calls_that_hold_all_seats_and_do_nothing_keep_no_other_flow_out(flow: Flow) -> None:
    """They wait for a message that never comes, while something else keeps the processor busy."""
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


async def test_move_leaves_the_seat_of_a_connection_to_its_next_stranger() -> None:
    """And takes from the share of the caller that the call is of now."""
    calls = Calls()
    for _ in range(3):
        calls.come(STRANGER, share=3)
    await settled()
    (_, seat) = calls.served[0]
    calls.admission.move(seat, GREEDY)
    await settled()
    assert len(calls.served) == 2
    calls.come(STRANGER, share=3)
    with pytest.raises(Overloaded):
        await calls.come(GREEDY, share=1)
    for _ in range(4):
        await until(calls, 1)
        calls.leave()
        await settled()
    assert (calls.admission.serving, calls.admission.waiting) == (0, 0)
    calls.come(GREEDY, share=1)  # nothing of it is held any more
    await until(calls, 1)


async def test_enter_refuses_a_call_beyond_the_share_of_its_key() -> None:
    """Those that wait count, and those that are served."""
    calls = Calls()
    for _ in range(5):
        calls.come(GREEDY, share=5)
    await settled()
    with pytest.raises(Overloaded) as error:
        await calls.come(Flow(GREEDY.key, Band.READ), share=5)
    assert error.value.retry_after is not None
    assert calls.refused == [Flow(GREEDY.key, Band.READ)]
    calls.come(Flow("other", Band.READ), share=5)
    await settled()
    assert calls.keys["other"] == 1
    calls.leave()
    calls.come(GREEDY, share=5)
    await settled()
    assert len(calls.refused) == 1


async def test_enter_makes_room_at_the_cost_of_the_longest_queue() -> None:
    """A flood that fills all the room there is keeps nobody else out."""
    calls = Calls(most=20)
    flood = [calls.come(GREEDY) for _ in range(22)]  # two are served
    others = [calls.come(Flow(f"ipv4:127.0.0.1:{number}", Band.STRANGER)) for number in range(6)]
    await settled()
    assert [task.done() and task.exception() is not None for task in flood] == [False] * 18 + [True] * 4
    assert all(isinstance(task.exception(), Overloaded) for task in flood[18:])
    assert not any(task.done() and task.exception() for task in others)
    assert calls.refused == [GREEDY] * 4
    with pytest.raises(Overloaded):
        await calls.come(GREEDY)


async def test_enter_refuses_a_call_that_waits_too_long() -> None:
    calls = Calls(patience=0.01)
    for _ in range(2):
        calls.come(GREEDY)
    with pytest.raises(Overloaded):
        await calls.come(GREEDY)
    assert len(calls.served) == 2


async def test_calls_that_are_cancelled_give_back_what_they_hold() -> None:
    """Whenever their clients leave: waiting, in the turn in which they are served, or in service."""
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
    await settled()
    while calls.served:
        calls.leave()
    await settled()
    assert not calls.served
    for flow in flows:  # every seat and every share is free again
        calls.come(flow, share=1 if flow is not flows[3] else 2)
    await until(calls, len(flows))
    assert not calls.refused


async def test_refusals_of_a_flood_are_paced_and_those_of_others_are_not() -> None:
    """A flood sends the next call as soon as one is refused."""
    calls = Calls()
    flood = [calls.come(GREEDY, share=0) for _ in range(200)]
    await settled()
    at_once = sum(task.done() for task in flood)
    assert 0 < at_once < 50
    with pytest.raises(Overloaded):
        await calls.come(Flow("other", Band.READ), share=0)
    assert sum(task.done() for task in flood) < 100
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    assert len(calls.refused) == 201


async def test_a_flow_that_has_stopped_flooding_is_refused_at_once_again() -> None:
    """The pace holds while refusals wait, and not for as long as it would take to send all of them."""
    calls = Calls()
    flood = [calls.come(GREEDY, share=0) for _ in range(3000)]  # a minute of refusals, at that pace
    await settled()
    for task in flood:
        task.cancel()
    await asyncio.gather(*flood, return_exceptions=True)
    async with asyncio.timeout(20):
        while True:
            refused = calls.come(GREEDY, share=0)
            await asyncio.wait((refused,), timeout=0.05)
            if refused.done():
                break
            refused.cancel()
    with pytest.raises(Overloaded):
        await refused


async def test_connections_that_prove_nothing_are_served_one_each_tick() -> None:
    """A flood of strangers replaces each call that is refused. Callers do not wait for the tick."""
    calls = Calls()
    strangers = [Flow(f"ipv4:127.0.0.1:{number}", Band.STRANGER) for number in range(3)]
    for stranger in strangers:
        for _ in range(5):
            calls.come(stranger)
    calls.come(GREEDY)
    for _ in range(3):
        calls.come(GREEDY)
    await settled()
    assert calls.keys == {**{flow.key: 1 for flow in strangers}, GREEDY.key: 1}
    for flow, seat in [each for each in calls.served if each[0] in strangers]:
        calls.served.remove((flow, seat))
        calls.admission.leave(seat)
    await settled()
    assert calls.keys == {GREEDY.key: 2}
    await until(calls, 5)
    assert calls.keys == {**{flow.key: 1 for flow in strangers}, GREEDY.key: 2}
    assert calls.processor.asked >= 3


async def test_a_connection_whose_call_was_proved_waits_for_no_tick() -> None:
    calls = Calls()
    for _ in range(3):
        calls.come(STRANGER)
    await settled()
    _, seat = calls.served[0]
    calls.admission.move(seat, GREEDY)
    await settled()
    assert calls.keys[STRANGER.key] == 2  # the first one counted as a stranger's when it came
    assert not calls.processor.asked
