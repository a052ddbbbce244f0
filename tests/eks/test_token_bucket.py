"""The rate of tokens, the reserve, and throttling."""

from __future__ import annotations

import pytest

from eksgateway.eks.token_bucket import TokenBucket


def take_all(bucket: TokenBucket, now: float, *, urgent: bool = False) -> int:
    """Take every token of a kind that there is now, and return their number."""
    count = 0
    while bucket.take(now, urgent=urgent):
        count += 1
    return count


def count_calls(bucket: TokenBucket, since: float, until: float) -> int:
    """The calls of a caller that makes the next one as soon as it may."""
    now, count = since, 0
    while (now := now + bucket.wait(now, urgent=False)) <= until:
        assert bucket.take(now, urgent=False)
        count += 1
    return count


def test_calls_are_made_at_the_rate() -> None:
    """At the start there are the tokens of one second."""
    bucket = TokenBucket(5, 0)
    assert take_all(bucket, 0) == 5
    assert count_calls(bucket, 0, 100) == pytest.approx(500, abs=1)


@pytest.mark.parametrize("rate", [0.1, 1, 5, 10_000])
def test_the_reserve_is_left_to_urgent_calls(rate: float) -> None:
    """Other calls wait until it is full again."""
    bucket = TokenBucket(rate, 0)
    assert take_all(bucket, 0) == max(1, rate)
    reserve = take_all(bucket, 0, urgent=True)
    assert reserve == max(3, rate)
    assert bucket.wait(0, urgent=True) == pytest.approx(1 / rate)
    assert bucket.wait(0, urgent=False) == pytest.approx((reserve + 1) / rate)


def test_take_succeeds_after_wait_and_not_before() -> None:
    bucket, now = TokenBucket(7, 0.1), 0.1
    take_all(bucket, now)
    for _ in range(10_000):
        left = bucket.wait(now, urgent=False)
        assert left > 0
        assert not bucket.take(now + left * 0.99, urgent=False)
        now += left
        assert bucket.take(now, urgent=False)


def test_throttle_halves_the_rate_and_it_recovers_in_half_a_minute() -> None:
    bucket = TokenBucket(8, 0)
    assert bucket.throttle(10, began=9.9)
    assert bucket.rate == 4
    assert take_all(bucket, 10) == 0
    assert count_calls(bucket, 10, 11) == 4
    bucket.wait(10 + 15, urgent=False)
    assert bucket.rate == pytest.approx(6)
    bucket.wait(10 + 30, urgent=False)
    assert bucket.rate == 8


def test_throttle_keeps_the_reserve() -> None:
    bucket = TokenBucket(8, 0)
    bucket.throttle(1, began=0.9)
    assert take_all(bucket, 1, urgent=True) == 8


def test_calls_throttled_together_halve_the_rate_once() -> None:
    bucket = TokenBucket(8, 0)
    assert [bucket.throttle(2 + n / 10, began=1 + n / 10) for n in range(10)] == [True] + [False] * 9
    assert bucket.throttle(3, began=2.1)
    assert bucket.rate == pytest.approx(2, rel=0.1)


def test_throttle_leaves_a_sixteenth_of_the_rate() -> None:
    bucket = TokenBucket(8, 0)
    for number in range(100):
        bucket.throttle(number / 1000 + 0.001, began=number / 1000 + 0.0005)
    assert bucket.rate == pytest.approx(0.5, rel=0.1)
