"""Queues: flows take turns within a band, and bands take turns by their weights."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from eksgateway.rpc.queues import Band, Flow, Queues, Seat


def any_flow(_: Flow) -> bool:
    return True


def take_all(queues: Queues) -> list[Seat]:
    """All seats in the order of their turns."""
    order = []
    while (seat := queues.take(any_flow)) is not None:
        order.append(seat)
    return order


def make_queues(**lengths: int) -> Queues:
    """Queues of one band, by key."""
    queues = Queues()
    for key, length in lengths.items():
        for _ in range(length):
            queues.add(Seat(Flow(key, Band.CANCEL)))
    return queues


def test_take_serves_short_queues_before_the_rest_of_a_long_one() -> None:
    """However many calls one caller sends, the others wait for at most one of them."""
    keys = [seat.flow.key for seat in take_all(make_queues(greedy=50, other=2, third=1))]
    assert keys[:5] == ["greedy", "other", "third", "greedy", "other"]
    assert keys[5:] == ["greedy"] * 48


def test_take_keeps_the_order_within_a_flow() -> None:
    queues = Queues()
    seats = [Seat(Flow("a", Band.READ)) for _ in range(10)]
    for seat in seats:
        queues.add(seat)
    assert take_all(queues) == seats


def test_take_gives_bands_turns_by_their_weights() -> None:
    """Cancels have the most turns, and no band waits for ever."""
    queues = Queues()
    for number in range(70):
        for band in Band:
            queues.add(Seat(Flow(f"{band}-{number % 3}", band)))
    for start in range(0, 70, 10):
        turns = Counter(queues.take(any_flow).flow.band for _ in range(10))  # type: ignore[union-attr]
        assert turns == {Band.CANCEL: 4, Band.OPEN: 3, Band.READ: 2, Band.STRANGER: 1}, start


def test_take_saves_no_turns_for_an_empty_band() -> None:
    """A band whose calls come late has its share from then on, without the unused turns."""
    queues = Queues()
    for _ in range(100):
        queues.add(Seat(Flow("stranger", Band.STRANGER)))
    for _ in range(50):
        queues.take(any_flow)
    for _ in range(20):
        queues.add(Seat(Flow("caller", Band.CANCEL)))
    bands = [queues.take(any_flow).flow.band for _ in range(10)]  # type: ignore[union-attr]
    assert Counter(bands) == {Band.CANCEL: 8, Band.STRANGER: 2}


def test_take_skips_flows_that_are_not_admitted() -> None:
    queues = make_queues(full=3, free=1)
    seat = queues.take(lambda flow: flow.key == "free")
    assert seat is not None
    assert seat.flow.key == "free"
    assert queues.take(lambda flow: flow.key == "free") is None
    assert len(queues) == 3


def test_last_of_longest_is_the_newest_call_of_the_longest_queue() -> None:
    queues = make_queues(a=2, b=5, c=1)
    last = queues.last_of_longest()
    assert last.flow.key == "b"
    queues.remove(last)
    assert queues.length(last.flow) == 4


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(list(Band))), max_size=60), st.randoms())
def test_every_seat_is_taken_or_removed_once(flows: list[tuple[int, Band]], chance: random.Random) -> None:
    """No seat is lost or served twice, and empty queues are forgotten."""
    queues, waiting, served = Queues(), [], []
    for key, band in flows:
        seat = Seat(Flow(str(key), band))
        queues.add(seat)
        waiting.append(seat)
        if chance.random() < 0.3:
            gone = chance.choice(waiting)
            waiting.remove(gone)
            queues.remove(gone)
        if chance.random() < 0.3 and (turn := queues.take(any_flow)):
            waiting.remove(turn)
            served.append(turn)
        assert len(queues) == len(waiting)
    assert set(take_all(queues)) == set(waiting)
    assert len(queues) == 0
    assert not any(Flow(str(key), band) in queues for key, band in flows)
