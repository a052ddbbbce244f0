"""What is news, and how old knowledge is said to be."""

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


class Desk:
    """A view and the clock it looks at; the gateway's is ``ahead``. An ``old`` gateway sends no age."""

    def __init__(self, max_age: float = 60, ahead: float = 0, *, old: bool = False) -> None:
        self.clock = FakeClock()
        self.ahead = ahead
        self.old = old
        timing = Timing(now=lambda: self.clock.now().timestamp(), monotonic=self.clock.monotonic)
        self.tracker = KnowledgeTracker(max_age, timing)

    def gets(self, kind: pb.WatchKind.ValueType, sequence: int = 1, age: float = 0) -> bool:
        """A message comes, of what EKS said ``age`` seconds before; whether it is news."""
        message = pb.WatchUpdateResponse(
            kind=kind, sequence=sequence, update=Update(status=f"Step{sequence}")
        )
        seen = self.clock.now().timestamp() + self.ahead - age
        message.observe_time.FromNanoseconds(int(seen * 1e9))
        if not self.old:
            message.age.FromNanoseconds(int(age * 1e9))
        return self.tracker.apply(message)


async def test_states_are_news_and_heartbeats_are_not() -> None:
    """A heartbeat only makes what is known younger."""
    desk = Desk()
    assert desk.gets(SNAPSHOT)
    assert desk.tracker.knowledge.update.status == "Step1"
    await desk.clock.advance(15)
    assert desk.tracker.fresh_for == pytest.approx(45)
    assert not desk.gets(HEARTBEAT)
    assert desk.tracker.fresh_for == pytest.approx(60)
    assert desk.gets(CHANGE, 2)
    assert desk.gets(FINAL, 3)
    assert (desk.tracker.knowledge.final, desk.tracker.knowledge.sequence) == (True, 3)


async def test_going_stale_and_fresh_again() -> None:
    """Both are told once; while it is stale, only a younger sight of EKS is news."""
    desk = Desk()
    desk.gets(SNAPSHOT)
    await desk.clock.advance(60)
    assert desk.tracker.fresh_for == 0
    desk.tracker.mark_stale()
    assert desk.tracker.knowledge.stale
    assert desk.tracker.knowledge.age_s == pytest.approx(60)
    assert desk.tracker.fresh_for == math.inf
    assert not desk.gets(HEARTBEAT, age=60)  # the gateway is back, and cannot read EKS
    assert desk.tracker.knowledge.stale
    assert desk.gets(HEARTBEAT, age=2)
    assert not desk.tracker.knowledge.stale
    assert desk.tracker.knowledge.age_s == pytest.approx(2)


async def test_before_the_first_state() -> None:
    """Nothing is known, and it is infinitely old; that is told after the time one asked for."""
    desk = Desk()
    await desk.clock.advance(60)
    assert desk.tracker.fresh_for == 0
    desk.tracker.mark_stale()
    assert (desk.tracker.knowledge.sequence, desk.tracker.knowledge.age_s, desk.tracker.knowledge.stale) == (
        0,
        math.inf,
        True,
    )
    assert desk.gets(SNAPSHOT)
    assert not desk.tracker.knowledge.stale


def test_a_state_that_is_old_when_it_comes() -> None:
    """It is told, and that it is stale."""
    desk = Desk()
    assert desk.gets(SNAPSHOT, age=300)
    assert desk.tracker.knowledge.stale
    assert desk.tracker.knowledge.age_s == pytest.approx(300)


def test_a_resumed_stream_may_begin_with_a_heartbeat() -> None:
    """A program that kept a token over its own restart learns the state from it."""
    desk = Desk()
    assert desk.gets(HEARTBEAT, 5)
    assert (desk.tracker.knowledge.sequence, desk.tracker.knowledge.update.status) == (5, "Step5")


async def test_an_older_sight_of_eks_changes_no_age() -> None:
    """Another replica may have looked longer ago; what is known does not grow older by it."""
    desk = Desk()
    desk.gets(SNAPSHOT)
    await desk.clock.advance(10)
    desk.gets(HEARTBEAT, age=30)
    assert desk.tracker.fresh_for == pytest.approx(50)


@pytest.mark.parametrize("ahead", [61, -61, 7200, -7200, 31_536_000, -31_536_000])
async def test_clocks_that_differ_change_no_age(ahead: float) -> None:
    """Only the gateway's own count of seconds and this machine's monotonic clock do."""
    desk = Desk(ahead=ahead)
    desk.gets(SNAPSHOT, age=10)
    assert not desk.tracker.knowledge.stale
    assert desk.tracker.knowledge.age_s == pytest.approx(10)
    await desk.clock.advance(15)
    desk.gets(HEARTBEAT, age=25)  # the gateway cannot read EKS
    assert desk.tracker.fresh_for == pytest.approx(35)
    desk.ahead = -ahead  # another replica, or a clock that was set
    desk.gets(HEARTBEAT, age=5)
    assert desk.tracker.fresh_for == pytest.approx(55)
    desk.gets(FINAL, 2, age=70)
    assert desk.tracker.knowledge.final


async def test_a_clock_that_jumps() -> None:
    """It makes nothing older or younger, neither between two messages nor with the next one."""
    desk = Desk()
    desk.gets(SNAPSHOT)
    desk.clock.jump(-7200)
    await desk.clock.advance(20)
    assert desk.tracker.fresh_for == pytest.approx(40)
    desk.gets(HEARTBEAT, age=3)
    assert desk.tracker.fresh_for == pytest.approx(57)


@pytest.mark.parametrize("ahead", [30, 3600], ids=["a little", "much"])
async def test_a_gateway_of_0_1_whose_clock_is_ahead(ahead: float) -> None:
    """What comes counts as fresh; time goes on from there by the monotonic clock."""
    desk = Desk(ahead=ahead, old=True)
    desk.gets(SNAPSHOT)
    await desk.clock.advance(40)
    assert desk.tracker.fresh_for == pytest.approx(20)
    desk.gets(HEARTBEAT, age=40)
    assert desk.tracker.fresh_for == pytest.approx(20)


async def test_a_gateway_of_0_1_whose_clock_is_behind() -> None:
    """Everything looks older by as much; its states are news all the same."""
    desk = Desk(ahead=-90, old=True)
    assert desk.gets(SNAPSHOT)
    assert desk.tracker.knowledge.stale
    await desk.clock.advance(15)
    assert not desk.gets(HEARTBEAT)
    assert desk.tracker.knowledge.age_s == pytest.approx(90)
    assert desk.gets(FINAL, 2)
    assert desk.tracker.knowledge.final


def test_a_kind_of_a_newer_gateway() -> None:
    """With another number it is a state, with the same one it is none; neither ends anything."""
    desk = Desk()
    desk.gets(SNAPSHOT)
    newer: Any = 99
    assert not desk.gets(newer)
    assert desk.gets(newer, 2)
    assert (desk.tracker.knowledge.sequence, desk.tracker.knowledge.final) == (2, False)
