"""Intervals, jitter and back-off."""

from __future__ import annotations

from random import Random

import pytest

from eksgateway.settings import WatchSettings
from eksgateway.watch.pace import Pace

SETTINGS = WatchSettings(poll_s=5, follow_s=30)


@pytest.mark.parametrize(
    ("watched", "asked", "seconds"),
    [
        pytest.param(True, False, 5, id="watched"),
        pytest.param(False, False, 30, id="followed only"),
        pytest.param(True, True, 1, id="asked"),
        pytest.param(False, True, 1, id="asked, followed only"),
    ],
)
def test_before_the_first_look(watched: bool, asked: bool, seconds: float) -> None:
    """The rest depends on who needs the next look."""
    assert Pace(SETTINGS, Random(1)).rest(watched=watched, asked=asked) == seconds


def test_jitter() -> None:
    """Each rest is drawn anew, within a tenth of the interval, and stays while it lasts."""
    pace = Pace(SETTINGS, Random(1))
    rests = []
    for _ in range(200):
        pace.looked(throttled=False)
        rests.append(pace.rest(watched=True, asked=False))
        assert pace.rest(watched=True, asked=False) == rests[-1]
    assert 4.5 <= min(rests) < 4.6
    assert 5.4 < max(rests) <= 5.5


@pytest.mark.parametrize("asked", [False, True])
def test_backing_off_and_recovering(asked: bool) -> None:
    """Each throttled look doubles the rest up to a minute, asked or not; one that is not ends that."""
    pace = Pace(SETTINGS, Random(1))
    for expected in (10, 20, 40, 60, *[60] * 2000):
        pace.looked(throttled=True)
        assert pace.rest(watched=True, asked=asked) == pytest.approx(expected, rel=0.1001)
    pace.looked(throttled=False)
    assert pace.rest(watched=True, asked=asked) <= 5.5


def test_backing_off_never_polls_faster() -> None:
    """An interval longer than a minute is not cut to a minute."""
    pace = Pace(WatchSettings(follow_s=300), Random(1))
    pace.looked(throttled=True)
    assert pace.rest(watched=False, asked=False) >= 270
