"""The operations of a batch share its rows in memory, and are written together."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from psycopg.errors import RaiseException

from eksgateway.clock import SystemClock
from eksgateway.errors import CancellationNotFound, DecisionStale, RequestIdReused
from eksgateway.ledger import store
from eksgateway.ledger.codec import CodecError
from eksgateway.ledger.database import Database, LedgerLocation
from eksgateway.ledger.hash_chain import GENESIS
from eksgateway.ledger.sql_ledger import SqlLedger
from eksgateway.ledger.sqlite.database import SqliteDatabase
from eksgateway.ledger.unit_of_work import ReadKeys, UnitOfWork, request_key
from eksgateway.ledger.verify import verify
from eksgateway.ledger.write_operations import WriteOperation, perform
from eksgateway.model import Cancellation, OutcomeKind, Phase
from eksgateway.settings import LedgerSettings
from support.ledger import (
    Faults,
    execute,
    list_denials,
    list_events,
    open_database,
    read_cancellations,
    refuse,
    run_in_one_batch,
)
from support.records import at, decision, intent, observation, outcome, ref, update

NAMES = ("1", "2", "3")
KEYS = ReadKeys(
    cancellations=[f"cancellation-{name}" for name in NAMES],
    requests=[request_key(intent(name)) for name in NAMES],
    updates=[ref()],
    outcomes=[f"cancellation-{name}" for name in NAMES],
    denials=True,
)


@pytest.fixture
def database(settings: LedgerSettings) -> Iterator[Database]:
    opened = open_database(settings)
    yield opened
    opened.close()


def kinds(path: LedgerLocation) -> list[str]:
    return [each.kind for each in list_events(path)]


def test_operations_on_one_record_see_each_other(database: Database, settings: LedgerSettings) -> None:
    """A cancellation that is new in the batch, and one that an earlier batch wrote, are written once."""
    with database.begin_batch(KEYS) as unit:
        store.add_intent(unit, intent("1"))
        store.add_outcome(unit, "cancellation-1", outcome(OutcomeKind.NOT_FORWARDED))
        with pytest.raises(RequestIdReused):
            store.add_intent(unit, intent("2", request_id="request-1"))
    with database.begin_batch(KEYS) as unit:
        store.renew_intent(unit, intent("1", decision=decision("2"), time=at(5)))
        with pytest.raises(DecisionStale):
            store.renew_intent(unit, intent("1", decision=decision("3"), time=at(5)))
        store.add_intent(unit, intent("2", time=at(5)))
        known = store.add_observations(unit, ref(), (), observation(update("Cancelling"), seconds=6))
        assert known.newest == unit.find("cancellation-2")
        with pytest.raises(RequestIdReused):
            store.add_intent(unit, intent("3", request_id="request-1"))
    assert kinds(settings.location)[2:] == ["intent_renewed", "intent", "observation", "observation"]
    found = read_cancellations(settings.location)
    assert [(each.id, each.phase) for each in found] == [
        ("cancellation-2", Phase.CANCELLING),
        ("cancellation-1", Phase.CANCELLING),
    ]
    assert verify(settings.location).broken is None


def test_an_update_is_summarized_without_its_settled_cancellations(database: Database) -> None:
    """The newest one is known although it is settled."""
    with database.begin_batch(KEYS) as unit:
        for name in NAMES:
            store.add_intent(unit, intent(name))
        for name in NAMES[1:]:
            store.add_outcome(unit, f"cancellation-{name}", outcome(OutcomeKind.NOT_FORWARDED))
    with database.begin_batch(ReadKeys(updates=[ref()])) as unit:
        assert unit.rows.ids == {ref(): {"cancellation-1", "cancellation-3"}}
        known = store.add_observations(unit, ref(), (), observation(update("Cancelled")))
    assert known.newest is not None
    assert (known.newest.id, known.pending) == ("cancellation-3", False)


def perform_all(unit: UnitOfWork, *works: Callable[[UnitOfWork], Any]) -> list[Any]:
    """Perform a batch; the type of each error, or None."""
    loop = asyncio.get_running_loop()
    batch = [WriteOperation(work, ReadKeys(), loop.create_future()) for work in works]
    perform(unit, batch)
    return [type(each.error) if each.error else None for each in batch]


def change_and_fail(unit: UnitOfWork) -> None:
    store.add_intent(unit, intent("2"))
    store.add_denials(unit, ["{}"], 1)
    store.write_probe(unit)
    store.add_outcome(unit, "cancellation-3", outcome())


async def test_an_operation_that_raises_leaves_no_change(
    database: Database, settings: LedgerSettings
) -> None:
    """Those before and after it are committed, and follow each other in the chain."""
    add_outcome = partial(store.add_outcome, cancellation_id="cancellation-1", outcome=outcome())
    with database.begin_batch(KEYS) as unit:
        add_intent = partial(store.add_intent, intent=intent("1"))
        errors = perform_all(unit, add_intent, change_and_fail, add_outcome)
        assert errors == [None, CancellationNotFound, None]
        assert unit.find("cancellation-2") is None
        assert [each.id for each in unit.find_all(ref())] == ["cancellation-1"]
        store.add_intent(unit, intent("3", request_id="request-2"))
    assert kinds(settings.location) == ["intent", "outcome", "intent"]
    assert list_denials(settings.location) == []
    assert verify(settings.location).broken is None


def test_denials_are_added_and_dropped_in_one_batch(database: Database, settings: LedgerSettings) -> None:
    """Their ids have no gaps."""
    with database.begin_batch(KEYS) as unit:
        store.add_denials(unit, ["{}"] * 5, 0)
    with database.begin_batch(KEYS) as unit:
        store.add_denials(unit, ["{}"] * 5, 0)
        assert unit.denial_ids == range(1, 11)
        assert store.drop_oldest_denials(unit, 3, begun=False) is False
        assert unit.denial_ids == range(8, 11)
    with database.begin_batch(KEYS) as unit:
        assert unit.denial_ids == range(8, 11)
    assert kinds(settings.location) == ["denials_lost"]


def add_both(unit: UnitOfWork) -> None:
    store.add_intent(unit, intent("1"))
    store.add_outcome(unit, "cancellation-1", outcome())


def test_a_batch_that_cannot_be_written_is_rolled_back(database: Database, settings: LedgerSettings) -> None:
    """The event before the refused one is not in the ledger, and the next batch starts from the old head."""
    refuse(settings.location, "events", "accepted")
    with (
        pytest.raises((sqlite3.IntegrityError, RaiseException), match="refused"),
        database.begin_batch(KEYS) as unit,
    ):
        add_both(unit)
    with database.begin_batch(KEYS) as unit:
        assert unit.head == GENESIS
        store.add_intent(unit, intent("1"))
    assert kinds(settings.location) == ["intent"]


def test_a_row_that_was_not_named_cannot_be_used(database: Database) -> None:
    """It might be in the ledger, so the operation fails."""
    with database.begin_batch(ReadKeys()) as unit:
        for use in (
            lambda: unit.find("cancellation-1"),
            lambda: unit.find_all(request_key(intent())),
            lambda: unit.find_all(ref()),
            lambda: unit.is_recorded("cancellation-1", outcome()),
        ):
            with pytest.raises(KeyError):
                use()
        with pytest.raises(AttributeError):
            store.add_denials(unit, ["{}"], 0)


async def test_a_damaged_record_fails_only_the_operation_that_uses_it(
    database: Database, settings: LedgerSettings
) -> None:
    with database.begin_batch(KEYS) as unit:
        store.add_intent(unit, intent("1"))
        store.add_intent(unit, intent("2"))
    execute(
        settings.location,
        "UPDATE cancellations SET record = '{' WHERE cancellation_id = 'cancellation-1'",
    )
    ids = ("cancellation-1", "cancellation-2")
    with database.begin_batch(KEYS) as unit:
        works = (partial(store.add_outcome, cancellation_id=each, outcome=outcome()) for each in ids)
        assert perform_all(unit, *works) == [CodecError, None]
    assert [each.cancellation_id for each in list_events(settings.location) if each.kind == "outcome"] == [
        "cancellation-2"
    ]


@pytest.mark.parametrize("size", [1, 50])
def test_a_batch_is_written_by_three_statements(sqlite_settings: LedgerSettings, size: int) -> None:
    """One each for all events, all new cancellations and all changed ones. (On SQLite; on PostgreSQL the
    round trips are counted.)
    """
    faults = Faults()
    database = SqliteDatabase(sqlite_settings, SystemClock(), faults.connection_type())
    intents = [intent(str(n)) for n in range(2 * size)]
    keys = ReadKeys([each.cancellation_id for each in intents], [request_key(each) for each in intents])
    with database.begin_batch(keys) as unit:
        for each in intents[:size]:
            store.add_intent(unit, each)
    with database.begin_batch(keys) as unit:
        for each in intents[:size]:
            store.add_outcome(unit, each.cancellation_id, outcome())
        for each in intents[size:]:
            store.add_intent(unit, each)
        faults.statements.clear()
    assert [each.split()[0] for each in faults.statements] == ["INSERT", "INSERT", "UPDATE", "COMMIT"]
    database.close()


async def test_operations_of_one_batch_get_their_own_results(
    faulty: tuple[SqlLedger, Faults], settings: LedgerSettings
) -> None:
    """An outcome finds the intent that waits beside it; two operations fail in memory, and cost no retry."""
    ledger, faults = faulty
    faults.begun = 0
    results = await run_in_one_batch(
        faults,
        ledger,
        ledger.commit_intent(intent("1")),
        ledger.record_outcome("cancellation-1", outcome()),
        ledger.record_outcome("none", outcome()),
        ledger.commit_intent(intent("2", request_id="request-1")),
        ledger.commit_intent(intent("3")),
    )
    phases = [each.phase if isinstance(each, Cancellation) else type(each) for each in results]
    assert phases == [
        Phase.OUTCOME_UNKNOWN,
        Phase.REQUESTED,
        CancellationNotFound,
        RequestIdReused,
        Phase.OUTCOME_UNKNOWN,
    ]
    assert faults.begun == 2
    assert kinds(settings.location) == ["intent", "intent", "outcome", "intent"]
