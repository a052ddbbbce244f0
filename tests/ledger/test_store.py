"""Owed writes are written once, and never onto a later renewal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from eksgateway.ledger import store
from eksgateway.ledger.sqlite.database import SqliteDatabase
from eksgateway.ledger.store import Transaction
from eksgateway.model import OutcomeKind, Phase
from eksgateway.settings import LedgerSettings
from support.records import at, decision, intent, outcome

NOT_FORWARDED = outcome(OutcomeKind.NOT_FORWARDED)


@pytest.fixture
def transaction(settings: LedgerSettings) -> Iterator[Transaction]:
    database = SqliteDatabase(settings)
    with database.write_engine.begin() as connection:
        yield Transaction(database, connection, lambda: datetime.now(UTC))
    database.close()


def test_close_intent_closes_an_open_intent_once(transaction: Transaction) -> None:
    """An intent that was never recorded is left alone."""
    assert store.close_intent(transaction, intent(), at(1)) is None
    store.add_intent(transaction, intent())
    assert store.close_intent(transaction, intent(), at(1)) == transaction.head
    assert store.close_intent(transaction, intent(), at(1)) is None
    assert transaction.head.seq == 2


def test_close_intent_leaves_a_renewed_intent_open(transaction: Transaction) -> None:
    """The later renewal may be on its way to EKS."""
    store.add_intent(transaction, intent())
    store.add_outcome(transaction, "cancellation-1", NOT_FORWARDED)
    store.renew_intent(transaction, intent(decision=decision("3"), time=at(5)))
    assert store.close_intent(transaction, intent(decision=decision("2")), at(1)) is None
    assert transaction.read_record("cancellation-1").cancellation.phase is Phase.OUTCOME_UNKNOWN


def test_add_outcome_once_leaves_a_later_renewal_open(transaction: Transaction) -> None:
    """The outcome was written before the renewal, and is retried after it."""
    store.add_intent(transaction, intent())
    assert store.add_outcome_once(transaction, "cancellation-1", NOT_FORWARDED) == transaction.head
    store.renew_intent(transaction, intent(decision=decision("2"), time=at(5)))
    assert store.add_outcome_once(transaction, "cancellation-1", NOT_FORWARDED) is None
    assert transaction.read_record("cancellation-1").cancellation.phase is Phase.OUTCOME_UNKNOWN
