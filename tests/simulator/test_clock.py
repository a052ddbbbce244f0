"""The simulated clock."""

import pytest

from eksgateway.simulator.clock import SimulatedClock


class Real:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_now_runs_at_the_speed() -> None:
    real = Real()
    clock = SimulatedClock(60, real)
    assert clock.now() == 0
    real.seconds += 2
    assert clock.now() == 120


def test_advance_adds_simulated_seconds() -> None:
    clock = SimulatedClock(60, Real())
    clock.advance(10)
    clock.advance(5)
    assert clock.now() == 15


def test_advance_refuses_negative_seconds() -> None:
    with pytest.raises(ValueError, match="backwards"):
        SimulatedClock(1, Real()).advance(-1)


@pytest.mark.parametrize("speed", [0, -1, float("nan")])
def test_a_speed_of_zero_or_less_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        SimulatedClock(speed, Real())
