"""A batch's statements: a fixed number, whatever its size."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final

from eksgateway.ledger import queries
from eksgateway.ledger.cancellation_notices import CANCELLATIONS
from eksgateway.ledger.postgres.pipeline import Rows, Statement
from eksgateway.ledger.unit_of_work import ReadKeys, ReadRows, UnitOfWork

_BY_ID: Final = "SELECT cancellation_id, record FROM {schema}.cancellations WHERE cancellation_id = ANY(%s)"
_BY_REQUEST: Final = """
    SELECT caller_id, request_id, cancellation_id, record
    FROM unnest(%s::text[], %s::text[]) AS asked (caller_id, request_id)
    JOIN {schema}.cancellations USING (caller_id, request_id)"""
_BY_UPDATE: Final = """
    SELECT asked.number, found.cancellation_id, found.record
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[])
        WITH ORDINALITY AS asked (account_id, region, cluster, update_id, number)
    CROSS JOIN LATERAL (
        (SELECT cancellation_id, record FROM {schema}.cancellations AS c WHERE {of_update} AND pending)
        UNION ALL
        (SELECT cancellation_id, record FROM {schema}.cancellations AS c WHERE {of_update}
            ORDER BY created DESC LIMIT 1)
    ) AS found"""
_OF_UPDATE: Final = " AND ".join(
    f"c.{name} = asked.{name}" for name in ("account_id", "region", "cluster", "update_id")
)
_OUTCOMES: Final = """
    SELECT cancellation_id, body FROM {schema}.events WHERE kind = 'outcome' AND cancellation_id = ANY(%s)"""
_NOTIFY: Final = b"SELECT pg_notify(%s, id) FROM unnest(%s::text[]) AS id"
_DENIAL_IDS: Final = "SELECT min(id), max(id) FROM {schema}.decisions"
_DENIALS: Final = """
    SELECT body FROM (SELECT body FROM {schema}.decisions ORDER BY id DESC LIMIT 10000) AS newest
    WHERE body = ANY(%s)"""

# The columns that are not text.
_TEXT: Final = "text"
_TYPES: Final = {
    **dict.fromkeys(("seq", "created", "latest", "id"), "bigint"),
    "pending": "boolean",
    "forward_before": "timestamptz",
}

# A forward stays what it was, unless this batch changes it.
_CHANGE: Final = dict.fromkeys(("replica", "forward_before"), "{0} = coalesce(changed.{0}, c.{0})")

Row = dict[str, Any]


class BatchStatements:
    """The statements of one gateway, whose name in ``cancellations`` is ``replica``."""

    def __init__(self, schema: str, replica: str) -> None:
        self._schema = schema
        self._replica = replica
        self._by_id, self._by_request, self._by_update, self._outcomes, self._denial_ids = (
            self._text(each) for each in (_BY_ID, _BY_REQUEST, _BY_UPDATE, _OUTCOMES, _DENIAL_IDS)
        )
        self._denials = self._text(_DENIALS)
        self._drop_denials = self._text("DELETE FROM {schema}.decisions WHERE id < %s")

    def reads(self, keys: ReadKeys) -> list[tuple[Statement, Callable[[ReadRows, Rows], None]]]:
        """The statements that read what the keys name, and what takes the rows of each."""
        requests, updates = list(keys.requests), list(keys.updates)
        columns = _columns([[*queries.update_columns(ref).values()] for ref in updates], 4)

        def add_requests(rows: ReadRows, found: Rows) -> None:
            for caller, request, key, record in found:
                rows.records[key] = record
                rows.ids[caller, request].add(key)

        def add_updates(rows: ReadRows, found: Rows) -> None:
            for number, key, record in found:
                rows.records[key] = record
                rows.ids[updates[number - 1]].add(key)

        every = (
            (keys.cancellations, Statement(self._by_id, [list(keys.cancellations)]), _add_records),
            (requests, Statement(self._by_request, _columns(requests, 2)), add_requests),
            (updates, Statement(self._by_update, columns), add_updates),
            (keys.outcomes, Statement(self._outcomes, [list(keys.outcomes)]), _add_outcomes),
            ([None] * keys.denials, Statement(self._denial_ids), _add_denial_ids),
            (keys.denial_bodies, Statement(self._denials, [list(keys.denial_bodies)]), _add_denials),
        )
        return [(statement, add) for asked, statement, add in every if asked]

    def writes(self, unit: UnitOfWork) -> list[Statement]:
        """The statements that write a batch's changes, and notify of each changed cancellation."""
        changes, stored = unit.changes, unit.rows.records
        rows = {
            key: queries.to_row(record) | self._forward_columns(changes.forwards.get(key))
            for key, record in changes.records.items()
        }
        statements = [
            *self._insert("events", [queries.event_row(event) for event in changes.events]),
            *self._insert("cancellations", [row for key, row in rows.items() if stored[key] is None]),
            *self._update_cancellations([row for key, row in rows.items() if stored[key] is not None]),
            *self._insert("decisions", changes.denials),
        ]
        if changes.dropped:
            statements.append(Statement(self._drop_denials, [unit.denial_ids.start]))
        if rows:
            statements.append(Statement(_NOTIFY, [f"{self._schema}_{CANCELLATIONS}", list(rows)]))
        return statements

    def _forward_columns(self, before: datetime | None) -> Row:
        return {"replica": self._replica if before else None, "forward_before": before}

    def _insert(self, table: str, rows: Sequence[Row]) -> list[Statement]:
        if not rows:
            return []
        text = f"INSERT INTO {{schema}}.{table} ({', '.join(rows[0])}) SELECT * FROM {_unnest(rows[0])}"  # noqa: S608 - our own words
        return [Statement(self._text(text), _columns([[*row.values()] for row in rows], len(rows[0])))]

    def _update_cancellations(self, rows: Sequence[Row]) -> list[Statement]:
        if not rows:
            return []
        names = ", ".join(rows[0])
        changes = ", ".join(
            _CHANGE.get(name, "{0} = changed.{0}").format(name)
            for name in rows[0]
            if name != "cancellation_id"
        )
        text = (
            f"UPDATE {{schema}}.cancellations AS c SET {changes} FROM {_unnest(rows[0])} AS changed ({names})"  # noqa: S608
            " WHERE c.cancellation_id = changed.cancellation_id"
        )
        return [Statement(self._text(text), _columns([[*row.values()] for row in rows], len(rows[0])))]

    def _text(self, text: str) -> bytes:
        return text.replace("{of_update}", _OF_UPDATE).replace("{schema}", f'"{self._schema}"').encode()


def _unnest(names: Collection[str]) -> str:
    return f"unnest({', '.join(f'%s::{_TYPES.get(name, _TEXT)}[]' for name in names)})"


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return [[row[place] for row in rows] for place in range(width)]


def _add_records(rows: ReadRows, found: Rows) -> None:
    rows.records.update((key, record) for key, record in found)


def _add_outcomes(rows: ReadRows, found: Rows) -> None:
    for key, body in found:
        rows.outcomes[key].add(body)


def _add_denial_ids(rows: ReadRows, found: Rows) -> None:
    ((first, last),) = found
    rows.denial_ids = range(first or 1, (last or 0) + 1)


def _add_denials(rows: ReadRows, found: Rows) -> None:
    rows.denial_bodies.update(body for (body,) in found)
