"""`verify` reports what decoding everything does, for ledgers that an intruder has made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import pytest

from eksgateway.ledger import histories
from eksgateway.ledger import verify_projection as by_decoding
from eksgateway.ledger.hash_chain import GENESIS, Event, find_fault
from eksgateway.ledger.projection import CancellationRecord, fold
from eksgateway.ledger.queries import COLUMNS, EVENTS, event_row, insert, to_row
from eksgateway.ledger.sqlite.connecting import decode_any_text
from eksgateway.ledger.sqlite.read_only import SnapshotConnection
from eksgateway.ledger.verify import VerifyReport, verify_snapshot
from support.histories import HISTORIES, chain

_EVENTS: Final = chain(HISTORIES)
_VALUES: Final = ("", None, 1, b"x")


@pytest.fixture
def ledger() -> Iterator[SnapshotConnection]:
    """Sound, with every kind of event, in tables that refuse nothing."""
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=SnapshotConnection)
    connection.text_factory = decode_any_text
    with closing(connection):
        connection.execute(f"CREATE TABLE events ({', '.join(Event.__slots__)})")
        connection.execute(f"CREATE TABLE cancellations ({', '.join(COLUMNS)})")
        connection.executemany(insert("events", Event.__slots__), map(event_row, _EVENTS))
        records = dict[str, CancellationRecord]()
        for event in _EVENTS[1:]:
            records[event.cancellation_id] = fold(records.get(event.cancellation_id), event)
        connection.executemany(insert("cancellations", COLUMNS), map(to_row, records.values()))
        yield connection


@contextmanager
def change(ledger: SnapshotConnection, statement: str, *parameters: Any) -> Iterator[None]:
    ledger.execute("BEGIN")
    ledger.execute(statement, parameters)
    yield
    ledger.execute("ROLLBACK")


def verify_by_decoding(ledger: SnapshotConnection) -> VerifyReport:
    head = GENESIS
    with ledger.stream(f"{EVENTS} ORDER BY seq") as rows:
        for row in rows:
            if what := find_fault(head, Event(*row)):
                return VerifyReport(head.seq, 0, head, by_decoding.Defect(head.seq + 1, what))
            head = Event(*row).checkpoint
    count, broken = by_decoding.verify_projection(ledger)
    return VerifyReport(head.seq, count, head, broken)


def find_broken(ledger: SnapshotConnection) -> by_decoding.Defect | None:
    report = verify_snapshot(ledger)
    assert report == verify_by_decoding(ledger)
    return report.broken


def test_only_a_renewed_cancellation_of_a_sound_ledger_is_decoded(
    ledger: SnapshotConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = list[str]()

    def note(key: str, *rest: Any) -> bool:
        decoded.append(key)
        return by_decoding.is_sound(key, *rest)

    monkeypatch.setattr(histories, "is_sound", note)
    report = verify_snapshot(ledger)
    assert (report.events, report.cancellations, report.broken) == (len(_EVENTS), len(HISTORIES), None)
    assert report == verify_by_decoding(ledger)
    assert decoded == ["cancellation-renewed"]


@pytest.mark.parametrize("column", Event.__slots__)
def test_every_column_of_every_event_counts(ledger: SnapshotConnection, column: str) -> None:
    for event in _EVENTS:
        for value in (*_VALUES, f"{getattr(event, column)}x", str(getattr(event, column)).upper()):
            if value == getattr(event, column):
                continue
            with change(ledger, f"UPDATE events SET {column} = ? WHERE seq = ?", value, event.seq):
                assert find_broken(ledger) is not None, (event.kind, value)


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_of_every_row_counts(ledger: SnapshotConnection, column: str) -> None:
    for name in HISTORIES:
        where = f"cancellation_id = 'cancellation-{name}'"
        (stored,) = ledger.execute(f"SELECT {column} FROM cancellations WHERE {where}").fetchone()
        for value in (*_VALUES, f"{stored}x", str(stored).upper()):
            if value == stored:
                continue
            with change(ledger, f"UPDATE cancellations SET {column} = ? WHERE {where}", value):
                assert find_broken(ledger) is not None, (name, value)


@pytest.mark.parametrize(
    ("table", "column"),
    [*(("events", each) for each in Event.__slots__), *(("cancellations", each) for each in COLUMNS)],
)
def test_text_that_is_not_utf8_counts(ledger: SnapshotConnection, table: str, column: str) -> None:
    """In one table, and in both."""
    forge = f"UPDATE {table} SET {column} = CAST(x'41ff' AS TEXT) WHERE rowid IN (2, 5)"
    with change(ledger, forge):
        assert find_broken(ledger) is not None
    with change(ledger, "UPDATE cancellations SET phase = CAST(x'ff' AS TEXT) WHERE rowid = 9"):
        ledger.execute(forge)
        assert find_broken(ledger) is not None


@pytest.mark.parametrize("table", ["events", "cancellations"])
def test_every_row_counts(ledger: SnapshotConnection, table: str) -> None:
    """Without it, and with it twice."""
    for (row,) in ledger.execute(f"SELECT rowid FROM {table} LIMIT -1 OFFSET 1").fetchall():
        with change(ledger, f"DELETE FROM {table} WHERE rowid = {row}"):
            assert find_broken(ledger) is not None or (table, row) == ("events", len(_EVENTS))
        with change(ledger, f"INSERT INTO {table} SELECT * FROM {table} WHERE rowid = {row}"):
            assert find_broken(ledger) is not None


def test_one_id_with_two_histories_is_no_cancellation(ledger: SnapshotConnection) -> None:
    """Each of its two rows equals its own share of the events."""
    events = chain({"pending": HISTORIES["pending"] * 2})
    for table in ("events", "cancellations"):
        ledger.execute(f"DELETE FROM {table}")
    ledger.executemany(insert("events", Event.__slots__), map(event_row, events))
    ledger.executemany(insert("cancellations", COLUMNS), [to_row(fold(None, each)) for each in events[1:]])
    found = find_broken(ledger)
    assert found is not None
    assert found.what == "cancellation cancellation-pending: intent cannot come here"


def test_more_open_histories_than_are_kept_are_verified(
    ledger: SnapshotConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "_MOST_KEPT", 3)
    assert find_broken(ledger) is None
    with change(ledger, "UPDATE cancellations SET latest = latest + 1 WHERE phase = 'TOO_LATE'"):
        assert find_broken(ledger) is not None
