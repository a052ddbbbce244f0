"""A batch's statements, as functions of a connection."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, update

from eksgateway.ledger import queries
from eksgateway.ledger.hash_chain import EventKind
from eksgateway.ledger.schema import cancellations, decisions, events, probe
from eksgateway.ledger.unit_of_work import ReadKeys, ReadRows, UnitOfWork

# Built once, because building a statement takes longer than running it.
_OUTCOMES: Final = (
    select(events.c.body)
    .where(events.c.cancellation_id == bindparam("cancellation_id"))
    .where(events.c.kind == EventKind.OUTCOME.value)
)
# Two selects, each answered by the index. A single one reads every row.
_DENIAL_IDS: Final = select(
    select(func.min(decisions.c.id)).scalar_subquery(), select(func.max(decisions.c.id)).scalar_subquery()
)
_ADD_EVENTS: Final = insert(events)
_ADD_CANCELLATIONS: Final = insert(cancellations)
_CHANGE_CANCELLATIONS: Final = update(cancellations).where(
    cancellations.c.cancellation_id == bindparam("key")
)
_ADD_DENIALS: Final = insert(decisions)
_DROP_DENIALS: Final = delete(decisions).where(decisions.c.id < bindparam("first"))
_WRITE_PROBE: Final = update(probe)


def read_rows(connection: Connection, keys: ReadKeys) -> ReadRows:
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
        rows.outcomes[key].update(connection.execute(_OUTCOMES, {"cancellation_id": key}).scalars())
    if keys.denials:
        first, last = connection.execute(_DENIAL_IDS).one()
        rows.denial_ids = range(first or 1, (last or 0) + 1)
    return rows


def _read(connection: Connection, statement: Select[Any], **parameters: str) -> dict[str, str]:
    """Encoded records by id."""
    return {row.cancellation_id: row.record for row in connection.execute(statement, parameters)}


def write_changes(connection: Connection, unit: UnitOfWork) -> None:
    changes, stored = unit.changes, unit.rows.records
    rows = {key: queries.to_row(record) for key, record in changes.records.items()}
    new = [row for key, row in rows.items() if stored[key] is None]
    changed = [row | {"key": key} for key, row in rows.items() if stored[key] is not None]
    for statement, parameters in (
        (_ADD_EVENTS, [queries.event_row(event) for event in changes.events]),
        (_ADD_CANCELLATIONS, new),
        (_CHANGE_CANCELLATIONS, changed),
        (_ADD_DENIALS, changes.denials),
        (_DROP_DENIALS, [{"first": unit.denial_ids.start}] if changes.dropped else []),
        (_WRITE_PROBE, [{"time": changes.probe_time}] if changes.probe_time else []),
    ):
        if parameters:
            connection.execute(statement, parameters)
