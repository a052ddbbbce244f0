"""Intervals and jitter."""

from __future__ import annotations

from random import Random

import pytest

from eksgateway.settings import WatchSettings
from eksgateway.watch.pace import Pace

SETTINGS = WatchSettings(poll_s=5, poll_min_s=2, poll_max_s=20, follow_s=30)


def rest_after(seconds: float, *, changed: bool, watched: bool = True, asked: bool = False) -> float:
    """The rest when nothing has changed for so long."""
    pace = Pace(SETTINGS, Random(1), 1000)
    if changed:
        pace.changed(1000)
    pace.looked(1000 + seconds)
    return pace.rest(watched=watched, asked=asked)


@pytest.mark.parametrize(
    ("watched", "asked", "seconds"),
    [
        pytest.param(True, False, 5, id="watched"),
        pytest.param(False, False, 30, id="followed only"),
        pytest.param(True, True, 2, id="asked"),
        pytest.param(False, True, 2, id="asked, followed only"),
    ],
)
def test_before_the_first_look(watched: bool, asked: bool, seconds: float) -> None:
    """The rest depends on who needs the next look."""
    assert Pace(SETTINGS, Random(1), 0).rest(watched=watched, asked=asked) == seconds


def test_jitter() -> None:
    """Each rest is drawn anew, within a tenth of the interval, and stays while it lasts."""
    pace = Pace(SETTINGS, Random(1), 0)
    rests = []
    for _ in range(200):
        pace.looked(0)
        rests.append(pace.rest(watched=True, asked=False))
        assert pace.rest(watched=True, asked=False) == rests[-1]
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
def test_adapting(since: float, changed: bool, seconds: float) -> None:
    """Fast near a change, slow in a rollback of hours, within the bounds."""
    assert rest_after(since, changed=changed) == pytest.approx(seconds, rel=0.1001)


@pytest.mark.parametrize("since", [0, 86_400])
def test_what_nobody_watches_has_a_pace_of_its_own(since: float) -> None:
    """A change is recorded soon enough."""
    assert rest_after(since, changed=True, watched=False) == pytest.approx(30, rel=0.1001)


def test_asking_is_never_slow() -> None:
    """Somebody who waits for a state does not pay for the calm before."""
    assert rest_after(86_400, changed=True, asked=True) == 2


@pytest.mark.parametrize("poll_s", [0.1, 300])
def test_bounds_that_do_not_fit(poll_s: float) -> None:
    """An interval outside of them stays as it is."""
    pace = Pace(WatchSettings(poll_s=poll_s, poll_max_s=min(poll_s, 25)), Random(1), 0)
    for since in (0, 86_400):
        pace.looked(since)
        assert pace.rest(watched=True, asked=False) == pytest.approx(poll_s, rel=0.1001)
    assert pace.rest(watched=True, asked=True) <= poll_s
