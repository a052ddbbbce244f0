"""Quotas: bounds on what each key and all keys hold at once."""

from __future__ import annotations

import pytest

from eksgateway.errors import Overloaded
from eksgateway.rpc.methods import Quota
from eksgateway.rpc.quotas import Quotas


def test_acquire_bounds_each_key_and_quota() -> None:
    quotas = Quotas({Quota.CALL: 2, Quota.WATCH: 1})
    held = [quotas.acquire("a", Quota.CALL) for _ in range(2)]
    with pytest.raises(Overloaded):
        quotas.acquire("a", Quota.CALL)
    quotas.acquire("a", Quota.WATCH)
    quotas.acquire("b", Quota.CALL)
    held[0].release()
    quotas.acquire("a", Quota.CALL)


def test_acquire_gives_every_key_one_beyond_the_total() -> None:
    quotas = Quotas({Quota.OPEN: 3}, {Quota.OPEN: 2})
    for _ in range(2):
        quotas.acquire("a", Quota.OPEN)
    quotas.acquire("b", Quota.OPEN)
    for key in "ab":
        with pytest.raises(Overloaded):
            quotas.acquire(key, Quota.OPEN)


def test_move_keeps_the_quota_when_the_other_is_full() -> None:
    """The call still releases the quota that it holds."""
    quotas = Quotas({Quota.CALL: 1, Quota.WATCH: 1})
    watch, call = quotas.acquire("a", Quota.WATCH), quotas.acquire("a", Quota.CALL)
    with pytest.raises(Overloaded):
        call.move(Quota.WATCH)
    call.release()
    call = quotas.acquire("a", Quota.CALL)
    watch.release()
    call.move(Quota.WATCH)
    quotas.acquire("a", Quota.CALL)
