"""Owed writes are written once, and never onto a later renewal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from eksgateway.ledger import store
from eksgateway.ledger.unit_of_work import ReadKeys, UnitOfWork, request_key
from eksgateway.model import OutcomeKind, Phase
from eksgateway.settings import LedgerSettings
from support.ledger import open_database
from support.records import at, decision, intent, outcome

NOT_FORWARDED = outcome(OutcomeKind.NOT_FORWARDED)


@pytest.fixture
def unit(settings: LedgerSettings) -> Iterator[UnitOfWork]:
    keys = ReadKeys(
        cancellations=["cancellation-1"],
        requests=[request_key(intent())],
        outcomes=["cancellation-1"],
    )
    database = open_database(settings)
    with database.begin_batch(keys) as unit:
        yield unit
    database.close()


def test_close_intent_closes_an_open_intent_once(unit: UnitOfWork) -> None:
    """An intent that was never recorded is left alone."""
    assert store.close_intent(unit, intent(), at(1)) is None
    store.add_intent(unit, intent())
    assert store.close_intent(unit, intent(), at(1)) == unit.head
    assert store.close_intent(unit, intent(), at(1)) is None
    assert unit.head.seq == 2


def test_close_intent_leaves_a_renewed_intent_open(unit: UnitOfWork) -> None:
    """The later renewal may be on its way to EKS."""
    store.add_intent(unit, intent())
    store.add_outcome(unit, "cancellation-1", NOT_FORWARDED)
    store.renew_intent(unit, intent(decision=decision("3"), time=at(5)))
    assert store.close_intent(unit, intent(decision=decision("2")), at(1)) is None
    assert unit.get("cancellation-1").phase is Phase.OUTCOME_UNKNOWN


def test_add_outcome_once_leaves_a_later_renewal_open(unit: UnitOfWork) -> None:
    """The outcome was written before the renewal, and is retried after it."""
    store.add_intent(unit, intent())
    assert store.add_outcome_once(unit, "cancellation-1", NOT_FORWARDED) == unit.head
    store.renew_intent(unit, intent(decision=decision("2"), time=at(5)))
    assert store.add_outcome_once(unit, "cancellation-1", NOT_FORWARDED) is None
    assert unit.get("cancellation-1").phase is Phase.OUTCOME_UNKNOWN
