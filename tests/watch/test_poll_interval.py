"""Poll intervals and their jitter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from eksgateway.eks.shared_reads import SeenUpdate
from eksgateway.settings import WatchSettings
from eksgateway.watch.poll_interval import PollInterval
from support.watching import an_update

SETTINGS = WatchSettings(poll_s=5, poll_min_s=2, poll_max_s=20, follow_s=30)


def interval_after(seconds: float, *, changed: bool, watched: bool = True, requested: bool = False) -> float:
    """The interval after so many seconds without a change."""
    interval = PollInterval(SETTINGS, Random(1), 1000)
    if changed:
        interval.record_change(1000)
    interval.record_poll(1000 + seconds)
    return interval.seconds(watched=watched, requested=requested)


@pytest.mark.parametrize(
    ("watched", "requested", "seconds"),
    [
        pytest.param(True, False, 5, id="watched"),
        pytest.param(False, False, 30, id="followed only"),
        pytest.param(True, True, 2, id="requested"),
        pytest.param(False, True, 2, id="requested, followed only"),
    ],
)
def test_first_interval_depends_on_watchers_and_requests(
    watched: bool, requested: bool, seconds: float
) -> None:
    assert PollInterval(SETTINGS, Random(1), 0).seconds(watched=watched, requested=requested) == seconds


def test_jitter_is_drawn_with_each_poll() -> None:
    """Within a tenth of the interval, and constant until the next poll."""
    interval = PollInterval(SETTINGS, Random(1), 0)
    rests = []
    for _ in range(200):
        interval.record_poll(0)
        rests.append(interval.seconds(watched=True, requested=False))
        assert interval.seconds(watched=True, requested=False) == rests[-1]
    assert 4.5 <= min(rests) < 4.6
    assert 5.4 < max(rests) <= 5.5


@pytest.mark.parametrize(
    ("since", "changed", "seconds"),
    [
        pytest.param(0, True, 2, id="just changed"),
        pytest.param(59, True, 2, id="changed a minute ago"),
        pytest.param(61, True, 5, id="changed a while ago"),
        pytest.param(0, False, 5, id="no change seen"),
        pytest.param(590, True, 5, id="ten minutes without a change"),
        pytest.param(1200, True, 10, id="twenty minutes"),
        pytest.param(1200, False, 10, id="twenty minutes, no change ever seen"),
        pytest.param(86_400, True, 20, id="a day"),
    ],
)
def test_interval_is_short_after_a_change_and_grows_without_one(
    since: float, changed: bool, seconds: float
) -> None:
    assert interval_after(since, changed=changed) == pytest.approx(seconds, rel=0.1001)


@pytest.mark.parametrize("since", [0, 86_400])
def test_unwatched_update_has_a_constant_interval(since: float) -> None:
    assert interval_after(since, changed=True, watched=False) == pytest.approx(30, rel=0.1001)


def test_requested_poll_ignores_the_time_without_change() -> None:
    assert interval_after(86_400, changed=True, requested=True) == 2


@pytest.mark.parametrize("poll_s", [0.1, 300])
def test_poll_s_outside_the_bounds_is_kept(poll_s: float) -> None:
    interval = PollInterval(WatchSettings(poll_s=poll_s, poll_max_s=min(poll_s, 25)), Random(1), 0)
    for since in (0, 86_400):
        interval.record_poll(since)
        assert interval.seconds(watched=True, requested=False) == pytest.approx(poll_s, rel=0.1001)
    assert interval.seconds(watched=True, requested=True) <= poll_s


START = datetime(2026, 1, 1, tzinfo=UTC)


def look(second: float = 0, *, mine: bool = True) -> SeenUpdate:
    time = START + timedelta(seconds=second)
    return SeenUpdate(an_update(), time, 1000 + second, changed=1000, mine=mine)


def interval_after_look(seed: int, second: float = 0, changed: float = 1000) -> PollInterval:
    """Of the replica ``seed``, which started ``seed`` seconds after the update last changed."""
    interval = PollInterval(SETTINGS, Random(seed), 1000 + seed)
    interval.record_shared("update", look(second), changed)
    return interval


def seconds(interval: PollInterval) -> float:
    return interval.seconds(watched=True, requested=False)


@pytest.mark.parametrize("second", [10, 1200])
def test_replicas_rest_equally_after_a_shared_read(second: int) -> None:
    assert len({seconds(interval_after_look(seed, second)) for seed in range(0, 100, 10)}) == 1


def test_jitter_of_shared_reads_differs() -> None:
    """Within a tenth of the interval."""
    rests = [seconds(interval_after_look(0, second)) for second in range(200)]
    assert 4.5 <= min(rests) < 4.6
    assert 5.4 < max(rests) <= 5.5


def test_interval_grows_from_the_change_that_replicas_know() -> None:
    assert seconds(interval_after_look(0, 1200)) == pytest.approx(10, rel=0.1001)
    assert seconds(interval_after_look(0, 1200, changed=2200)) == pytest.approx(5, rel=0.1001)


def test_cancel_at_this_replica_is_a_change_after_the_one_that_replicas_know() -> None:
    interval = PollInterval(SETTINGS, Random(1), 1000)
    interval.record_change(2000)
    interval.record_shared("update", look(1030), changed=1000)
    assert seconds(interval) == pytest.approx(2, rel=0.1001)


def test_rest_after_a_shared_read_counts_from_its_beginning() -> None:
    """That of a replica which did not make it is a little longer."""
    ends = {}
    for mine in (True, False):
        interval = PollInterval(SETTINGS, Random(1), 1000)
        interval.record_shared("update", look(mine=mine), 1000)
        rest = interval.rest(1003, watched=True, requested=False)
        assert rest.begin == 1000
        ends[mine] = rest.end
    assert ends[True] == pytest.approx(1005, abs=0.5)
    assert 0.2 <= ends[False] - ends[True] <= 0.5


def test_rest_after_an_own_read_counts_from_its_end() -> None:
    interval = interval_after_look(0)
    interval.record_poll(1003)
    assert interval.rest(1003, watched=True, requested=False).begin == 1003
