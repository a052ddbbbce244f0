"""Tokens: how fast they come, who may take which, and what throttling does to them."""

from __future__ import annotations

import pytest

from eksgateway.eks.token_bucket import TokenBucket


def taken(bucket: TokenBucket, now: float, *, urgent: bool = False) -> int:
    """How many calls of a kind may be made right now."""
    count = 0
    while bucket.take(now, urgent=urgent):
        count += 1
    return count


def calls(bucket: TokenBucket, since: float, until: float) -> int:
    """How many calls a caller makes who always makes the next one as soon as it may."""
    now, count = since, 0
    while (now := now + bucket.wait(now, urgent=False)) <= until:
        assert bucket.take(now, urgent=False)
        count += 1
    return count


def test_the_rate() -> None:
    """Over time as many calls as the rate says, and at the start what one second brings."""
    bucket = TokenBucket(5, 0)
    assert taken(bucket, 0) == 5
    assert calls(bucket, 0, 100) == pytest.approx(500, abs=1)


@pytest.mark.parametrize("rate", [0.1, 1, 5, 10_000])
def test_the_reserve(rate: float) -> None:
    """However much is read, a cancel's three calls find tokens, and reading waits until those are back."""
    bucket = TokenBucket(rate, 0)
    assert taken(bucket, 0) == max(1, rate)
    reserve = taken(bucket, 0, urgent=True)
    assert reserve == max(3, rate)
    assert bucket.wait(0, urgent=True) == pytest.approx(1 / rate)
    assert bucket.wait(0, urgent=False) == pytest.approx((reserve + 1) / rate)


def test_waiting_is_enough() -> None:
    """After the time to wait there is a token, whatever floats lose; and none before it."""
    bucket, now = TokenBucket(7, 0.1), 0.1
    taken(bucket, now)
    for _ in range(10_000):
        left = bucket.wait(now, urgent=False)
        assert left > 0
        assert not bucket.take(now + left * 0.99, urgent=False)
        now += left
        assert bucket.take(now, urgent=False)


def test_throttling_halves_and_time_mends() -> None:
    """Half of the rate at once and nothing saved for reading; all of the rate again after half a minute."""
    bucket = TokenBucket(8, 0)
    assert bucket.throttle(10, began=9.9)
    assert bucket.rate == 4
    assert taken(bucket, 10) == 0
    assert calls(bucket, 10, 11) == 4
    bucket.wait(10 + 15, urgent=False)
    assert bucket.rate == pytest.approx(6)
    bucket.wait(10 + 30, urgent=False)
    assert bucket.rate == 8


def test_the_reserve_outlives_throttling() -> None:
    """A cancel that comes then does not wait for tokens."""
    bucket = TokenBucket(8, 0)
    bucket.throttle(1, began=0.9)
    assert taken(bucket, 1, urgent=True) == 8


def test_calls_under_way_at_the_last_time_say_nothing_new() -> None:
    """Ten calls throttled together halve the rate once; one that began afterwards halves it again."""
    bucket = TokenBucket(8, 0)
    assert [bucket.throttle(2 + n / 10, began=1 + n / 10) for n in range(10)] == [True] + [False] * 9
    assert bucket.throttle(3, began=2.1)
    assert bucket.rate == pytest.approx(2, rel=0.1)


def test_it_never_stops() -> None:
    """However long EKS throttles, a sixteenth of the rate is left to find out when it ends."""
    bucket = TokenBucket(8, 0)
    for number in range(100):
        bucket.throttle(number / 1000 + 0.001, began=number / 1000 + 0.0005)
    assert bucket.rate == pytest.approx(0.5, rel=0.1)
