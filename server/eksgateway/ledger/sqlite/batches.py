"""A batch's statements, as functions of a connection."""

from __future__ import annotations

import sqlite3
from typing import Final

from eksgateway.ledger import queries
from eksgateway.ledger.hash_chain import Event
from eksgateway.ledger.unit_of_work import ReadKeys, ReadRows, UnitOfWork

_OUTCOMES: Final = "SELECT body FROM events WHERE cancellation_id = ? AND kind = 'outcome'"
# Two selects, each answered by the index. A single one reads every row.
_DENIAL_IDS: Final = "SELECT (SELECT min(id) FROM decisions), (SELECT max(id) FROM decisions)"
_ADD_EVENTS: Final = queries.insert("events", Event.__slots__)
_ADD_CANCELLATIONS: Final = queries.insert("cancellations", queries.COLUMNS)
# The other columns stay as they are, and naming them would write their five indexes anew.
_CHANGE_CANCELLATIONS: Final = (
    "UPDATE cancellations SET latest = :latest, phase = :phase, pending = :pending, record = :record"
    " WHERE cancellation_id = :cancellation_id"
)
_ADD_DENIALS: Final = queries.insert("decisions", queries.DENIAL_COLUMNS)


def read_rows(connection: sqlite3.Connection, keys: ReadKeys) -> ReadRows:
    """Takes a statement for each key: they cost no round trip here."""
    rows = ReadRows(keys, queries.find_head(connection))
    for key in keys.cancellations:
        rows.records |= _read(connection, queries.BY_ID, cancellation_id=key)
    for request in keys.requests:
        found = _read(connection, queries.BY_REQUEST, caller_id=request[0], request_id=request[1])
        rows.records |= found
        rows.ids[request].update(found)
    for ref in keys.updates:
        for statement in (queries.PENDING_OF, queries.NEWEST_OF):
            found = _read(connection, statement, **queries.update_columns(ref))
            rows.records |= found
            rows.ids[ref].update(found)
    for key in keys.outcomes:
        rows.outcomes[key].update(body for (body,) in connection.execute(_OUTCOMES, (key,)))
    if keys.denials:
        first, last = connection.execute(_DENIAL_IDS).fetchone()
        rows.denial_ids = range(first or 1, (last or 0) + 1)
    return rows


def _read(connection: sqlite3.Connection, statement: str, **parameters: str) -> dict[str, str]:
    """Encoded records by id."""
    return {key: record for record, key in connection.execute(statement, parameters)}


def write_changes(connection: sqlite3.Connection, unit: UnitOfWork) -> None:
    changes, stored = unit.changes, unit.rows.records
    rows = {key: queries.to_row(record) for key, record in changes.records.items()}
    for statement, parameters in (
        (_ADD_EVENTS, [queries.event_row(event) for event in changes.events]),
        (_ADD_CANCELLATIONS, [row for key, row in rows.items() if stored[key] is None]),
        (_CHANGE_CANCELLATIONS, [row for key, row in rows.items() if stored[key] is not None]),
        (_ADD_DENIALS, changes.denials),
        (
            "DELETE FROM decisions WHERE id < :first",
            [{"first": unit.denial_ids.start}] if changes.dropped else [],
        ),
        ("UPDATE probe SET time = :time", [{"time": changes.probe_time}] if changes.probe_time else []),
    ):
        if parameters:
            connection.executemany(statement, parameters)
