"""The simulated clock."""

import pytest

from eksgateway.simulator.clock import SimulatedClock


class Real:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_it_runs_faster_than_real_time() -> None:
    """At speed 60 a real second is a simulated minute, counted from the start."""
    real = Real()
    clock = SimulatedClock(60, real)
    assert clock.now() == 0
    real.seconds += 2
    assert clock.now() == 120


def test_it_can_be_pushed_ahead() -> None:
    """Advancing is in simulated seconds, whatever the speed."""
    clock = SimulatedClock(60, Real())
    clock.advance(10)
    clock.advance(5)
    assert clock.now() == 15


def test_it_never_runs_backwards() -> None:
    """A negative advance is refused."""
    with pytest.raises(ValueError, match="backwards"):
        SimulatedClock(1, Real()).advance(-1)


@pytest.mark.parametrize("speed", [0, -1, float("nan")])
def test_a_speed_is_positive(speed: float) -> None:
    """A clock that stands still or runs back is refused."""
    with pytest.raises(ValueError, match="speed"):
        SimulatedClock(speed, Real())
