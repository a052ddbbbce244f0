"""What is owed is written once, however often it is tried, and never onto what came after it."""

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


def test_closing(transaction: Transaction) -> None:
    """An intent that is open is closed, once; one that never was is left alone."""
    assert store.close_intent(transaction, intent(), NOT_FORWARDED) is None
    store.add_intent(transaction, intent())
    assert store.close_intent(transaction, intent(), NOT_FORWARDED) == transaction.head
    assert store.close_intent(transaction, intent(), NOT_FORWARDED) is None
    assert transaction.head.seq == 2


def test_closing_what_was_renewed_meanwhile(transaction: Transaction) -> None:
    """A renewal that failed is not closed onto the one that came after it, which may be on its way."""
    store.add_intent(transaction, intent())
    store.add_outcome(transaction, "cancellation-1", NOT_FORWARDED)
    store.renew_intent(transaction, intent(decision=decision("3"), time=at(5)))
    assert store.close_intent(transaction, intent(decision=decision("2")), NOT_FORWARDED) is None
    assert transaction.record("cancellation-1").cancellation.phase is Phase.OUTCOME_UNKNOWN


def test_an_owed_outcome_is_not_for_a_later_renewal(transaction: Transaction) -> None:
    """One that was written, and tried again after a renewal, leaves the renewal alone."""
    store.add_intent(transaction, intent())
    assert store.add_outcome_once(transaction, "cancellation-1", NOT_FORWARDED) == transaction.head
    store.renew_intent(transaction, intent(decision=decision("2"), time=at(5)))
    assert store.add_outcome_once(transaction, "cancellation-1", NOT_FORWARDED) is None
    assert transaction.record("cancellation-1").cancellation.phase is Phase.OUTCOME_UNKNOWN
