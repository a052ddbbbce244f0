"""When the knowledge of an update is news, and how old it is."""

from __future__ import annotations

import math
from typing import Any

import pytest

from eksgateway.client.knowledge import KnowledgeTracker
from eksgateway.client.retries import Timing
from eksgateway.v1 import update_service_pb2 as pb
from eksgateway.v1.update_pb2 import Update
from support.clock import FakeClock

SNAPSHOT, CHANGE = pb.WATCH_KIND_SNAPSHOT, pb.WATCH_KIND_CHANGE
HEARTBEAT, FINAL = pb.WATCH_KIND_HEARTBEAT, pb.WATCH_KIND_FINAL


class Watch:
    """A tracker and its clock. The gateway's clock is ``ahead``; an ``old`` gateway sends no age."""

    def __init__(self, max_age: float = 60, ahead: float = 0, *, old: bool = False) -> None:
        self.clock = FakeClock()
        self.ahead = ahead
        self.old = old
        timing = Timing(now=lambda: self.clock.now().timestamp(), monotonic=self.clock.monotonic)
        self.tracker = KnowledgeTracker(max_age, timing)

    def receive(self, kind: pb.WatchKind.ValueType, sequence: int = 1, age: float = 0) -> bool:
        """Apply a message about a state that EKS had ``age`` seconds ago. Returns whether it is news."""
        message = pb.WatchUpdateResponse(
            kind=kind, sequence=sequence, update=Update(status=f"Step{sequence}")
        )
        seen = self.clock.now().timestamp() + self.ahead - age
        message.observe_time.FromNanoseconds(int(seen * 1e9))
        if not self.old:
            message.age.FromNanoseconds(int(age * 1e9))
        return self.tracker.apply(message)


async def test_states_are_news_and_heartbeats_are_not() -> None:
    """A heartbeat only resets the age."""
    watch = Watch()
    assert watch.receive(SNAPSHOT)
    assert watch.tracker.knowledge.update.status == "Step1"
    await watch.clock.advance(15)
    assert watch.tracker.fresh_for == pytest.approx(45)
    assert not watch.receive(HEARTBEAT)
    assert watch.tracker.fresh_for == pytest.approx(60)
    assert watch.receive(CHANGE, 2)
    assert watch.receive(FINAL, 3)
    assert (watch.tracker.knowledge.final, watch.tracker.knowledge.sequence) == (True, 3)


async def test_becoming_stale_and_fresh_again_is_news() -> None:
    """While stale, only a message with a recent age is news."""
    watch = Watch()
    watch.receive(SNAPSHOT)
    await watch.clock.advance(60)
    assert watch.tracker.fresh_for == 0
    watch.tracker.mark_stale()
    assert watch.tracker.knowledge.stale
    assert watch.tracker.knowledge.age_s == pytest.approx(60)
    assert watch.tracker.fresh_for == math.inf
    assert not watch.receive(HEARTBEAT, age=60)  # the gateway is back, and cannot read EKS
    assert watch.tracker.knowledge.stale
    assert watch.receive(HEARTBEAT, age=2)
    assert not watch.tracker.knowledge.stale
    assert watch.tracker.knowledge.age_s == pytest.approx(2)


async def test_knowledge_becomes_stale_before_the_first_state() -> None:
    """It is empty, and its age infinite."""
    watch = Watch()
    await watch.clock.advance(60)
    assert watch.tracker.fresh_for == 0
    watch.tracker.mark_stale()
    assert (
        watch.tracker.knowledge.sequence,
        watch.tracker.knowledge.age_s,
        watch.tracker.knowledge.stale,
    ) == (
        0,
        math.inf,
        True,
    )
    assert watch.receive(SNAPSHOT)
    assert not watch.tracker.knowledge.stale


def test_old_state_is_news_and_stale() -> None:
    watch = Watch()
    assert watch.receive(SNAPSHOT, age=300)
    assert watch.tracker.knowledge.stale
    assert watch.tracker.knowledge.age_s == pytest.approx(300)


def test_first_heartbeat_of_a_resumed_stream_is_news() -> None:
    """A program that kept a resume token across its own restart learns the state from it."""
    watch = Watch()
    assert watch.receive(HEARTBEAT, 5)
    assert (watch.tracker.knowledge.sequence, watch.tracker.knowledge.update.status) == (5, "Step5")


async def test_message_with_a_higher_age_does_not_increase_the_age() -> None:
    """It may come from another replica."""
    watch = Watch()
    watch.receive(SNAPSHOT)
    await watch.clock.advance(10)
    watch.receive(HEARTBEAT, age=30)
    assert watch.tracker.fresh_for == pytest.approx(50)


@pytest.mark.parametrize("ahead", [61, -61, 7200, -7200, 31_536_000, -31_536_000])
async def test_different_wall_clocks_do_not_change_the_age(ahead: float) -> None:
    """Only the gateway's age and the local monotonic clock do."""
    watch = Watch(ahead=ahead)
    watch.receive(SNAPSHOT, age=10)
    assert not watch.tracker.knowledge.stale
    assert watch.tracker.knowledge.age_s == pytest.approx(10)
    await watch.clock.advance(15)
    watch.receive(HEARTBEAT, age=25)  # the gateway cannot read EKS
    assert watch.tracker.fresh_for == pytest.approx(35)
    watch.ahead = -ahead  # another replica, or a clock that was set
    watch.receive(HEARTBEAT, age=5)
    assert watch.tracker.fresh_for == pytest.approx(55)
    watch.receive(FINAL, 2, age=70)
    assert watch.tracker.knowledge.final


async def test_jump_of_the_wall_clock_does_not_change_the_age() -> None:
    watch = Watch()
    watch.receive(SNAPSHOT)
    watch.clock.jump(-7200)
    await watch.clock.advance(20)
    assert watch.tracker.fresh_for == pytest.approx(40)
    watch.receive(HEARTBEAT, age=3)
    assert watch.tracker.fresh_for == pytest.approx(57)


@pytest.mark.parametrize("ahead", [30, 3600], ids=["a little", "much"])
async def test_state_of_a_0_1_gateway_whose_clock_is_ahead_is_fresh(ahead: float) -> None:
    """From there on the monotonic clock counts."""
    watch = Watch(ahead=ahead, old=True)
    watch.receive(SNAPSHOT)
    await watch.clock.advance(40)
    assert watch.tracker.fresh_for == pytest.approx(20)
    watch.receive(HEARTBEAT, age=40)
    assert watch.tracker.fresh_for == pytest.approx(20)


async def test_state_of_a_0_1_gateway_whose_clock_is_behind_is_stale() -> None:
    """Its states are news all the same."""
    watch = Watch(ahead=-90, old=True)
    assert watch.receive(SNAPSHOT)
    assert watch.tracker.knowledge.stale
    await watch.clock.advance(15)
    assert not watch.receive(HEARTBEAT)
    assert watch.tracker.knowledge.age_s == pytest.approx(90)
    assert watch.receive(FINAL, 2)
    assert watch.tracker.knowledge.final


def test_unknown_kind_is_news_only_with_a_new_sequence() -> None:
    watch = Watch()
    watch.receive(SNAPSHOT)
    newer: Any = 99
    assert not watch.receive(newer)
    assert watch.receive(newer, 2)
    assert (watch.tracker.knowledge.sequence, watch.tracker.knowledge.final) == (2, False)
