"""The ledger's queries, as functions of a connection. Each is one statement, and so sees one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select, tuple_, union_all

from eksgateway.errors import RequestInvalid
from eksgateway.ledger.codec import decode, encode
from eksgateway.ledger.hash_chain import GENESIS, Checkpoint, Event
from eksgateway.ledger.projection import CancellationRecord, summarize
from eksgateway.ledger.protocol import CancellationSummary, HistoryFilter, HistoryPage, ReadScope, Recorded
from eksgateway.ledger.schema import cancellations, events, probe
from eksgateway.model import ClusterRef, Observation, UpdateRef

_RECORDS: Final = select(cancellations.c.record, cancellations.c.cancellation_id)
_FORWARDS: Final = _RECORDS.add_columns(cancellations.c.replica, cancellations.c.forward_before)


def _equal(*columns: str) -> Iterator[ColumnElement[bool]]:
    return (cancellations.c[each] == bindparam(each) for each in columns)


# Built once, because building a statement takes longer than running it.
_HEAD: Final = select(events.c.seq, events.c.hash).order_by(events.c.seq.desc()).limit(1)
_SKEW: Final = timedelta(seconds=10)  # a replica that read an update without the database dated it itself
_DATABASE_CLOCK: Final = func.clock_timestamp().label("now")
BY_ID: Final = _RECORDS.where(*_equal("cancellation_id"))
BY_REQUEST: Final = _RECORDS.where(*_equal("caller_id", "request_id"))
_FORWARD_OF_REQUEST: Final = _FORWARDS.where(*_equal("caller_id", "request_id"))
_OF_UPDATE: Final = _RECORDS.where(*_equal("account_id", "region", "cluster", "update_id"))
PENDING_OF: Final = _OF_UPDATE.where(cancellations.c.pending).order_by(cancellations.c.created)
NEWEST_OF: Final = _OF_UPDATE.order_by(cancellations.c.created.desc()).limit(1)
_SUMMARY_OF: Final = union_all(*(select(each.subquery()) for each in (PENDING_OF, NEWEST_OF)))


def to_row(record: CancellationRecord) -> dict[str, Any]:
    intent = record.cancellation.intent
    return update_columns(intent.request.ref) | {
        "cancellation_id": intent.cancellation_id,
        "created": record.created,
        "latest": record.latest,
        "caller_id": intent.caller.id,
        "request_id": intent.request_id,
        "phase": record.cancellation.phase.value,
        "pending": not record.cancellation.settled,
        "record": encode(record),
    }


def event_row(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Event.__slots__}


def update_columns(ref: UpdateRef) -> dict[str, str]:
    return _cluster_columns(ref.cluster) | {"update_id": ref.update_id}


def find_head(connection: Connection) -> Checkpoint:
    row = connection.execute(_HEAD).one_or_none()
    return Checkpoint(row.seq, row.hash) if row else GENESIS


def find_by_id(connection: Connection, cancellation_id: str) -> CancellationRecord | None:
    return _read_one(connection, BY_ID, cancellation_id=cancellation_id)


def find_by_request(connection: Connection, caller_id: str, request_id: str) -> CancellationRecord | None:
    return _read_one(connection, BY_REQUEST, caller_id=caller_id, request_id=request_id)


def find_pending(connection: Connection, replica: str) -> tuple[Recorded, ...]:
    """Oldest first. ``replica`` is this one."""
    rows = _FORWARDS.where(cancellations.c.pending).order_by(cancellations.c.created)
    return _read_forwards(connection, rows, replica)


def find_pending_ids(connection: Connection) -> dict[str, int]:
    """With the number of each one's newest event."""
    rows = select(cancellations.c.cancellation_id, cancellations.c.latest).where(cancellations.c.pending)
    return {row.cancellation_id: row.latest for row in connection.execute(rows)}


def look_up(connection: Connection, replica: str, caller_id: str, request_id: str) -> Recorded | None:
    parameters = {"caller_id": caller_id, "request_id": request_id}
    found = _read_forwards(connection, _FORWARD_OF_REQUEST, replica, parameters)
    return found[0] if found else None


def read(connection: Connection, replica: str, cancellation_ids: Collection[str]) -> tuple[Recorded, ...]:
    rows = _FORWARDS.where(cancellations.c.cancellation_id.in_(cancellation_ids))
    return _read_forwards(connection, rows, replica)


def _read_forwards(
    connection: Connection, rows: Select[Any], replica: str, parameters: dict[str, str] | None = None
) -> tuple[Recorded, ...]:
    """``replica`` is this one. It is empty where there is no other, and nothing is in flight elsewhere."""
    if replica:
        rows = rows.add_columns(_DATABASE_CLOCK)
    return tuple(_to_recorded(row, replica) for row in connection.execute(rows, parameters))


def _to_recorded(row: Any, replica: str) -> Recorded:
    record = decode(CancellationRecord, row.record)
    elsewhere, in_flight_s = row.replica not in (None, replica), 0.0
    if elsewhere and record.cancellation.outcome is None and not _is_from_the_future(record, row.now):
        in_flight_s = max(0.0, (row.forward_before - row.now).total_seconds())
    return Recorded(record.cancellation, record.latest, elsewhere, in_flight_s)


def _is_from_the_future(record: CancellationRecord, now: datetime) -> bool:
    """The database's clock was set back since. How long ago it was written is not known then."""
    return record.known_at is not None and record.known_at > now + _SKEW


def summarize_if_unchanged(
    connection: Connection, ref: UpdateRef, observation: Observation
) -> CancellationSummary | None:
    """The summary of an update, or None if the observation changes one of its cancellations."""
    rows = connection.execute(_SUMMARY_OF, update_columns(ref))
    stored = {row.cancellation_id: row.record for row in rows}  # the newest one may be pending too
    records = sorted(
        (decode(CancellationRecord, each) for each in stored.values()), key=attrgetter("created")
    )
    if any(each.is_changed_by(observation) for each in records):
        return None
    return summarize(records, records[-1] if records else None, observation)


def find_clusters(connection: Connection, caller_id: str) -> tuple[ClusterRef, ...]:
    table = cancellations.c
    rows = select(table.account_id, table.region, table.cluster).distinct()
    if caller_id:
        rows = rows.where(table.caller_id == caller_id)
    return tuple(ClusterRef(*row) for row in connection.execute(rows))


def read_page(connection: Connection, which: HistoryFilter, limit: int, before: str) -> HistoryPage:
    """Newest first. Raises RequestInvalid for a ``before`` that is not from a page."""
    rows = _RECORDS.order_by(cancellations.c.created.desc()).limit(limit + 1)
    if which.cluster is not None:
        rows = rows.filter_by(**_cluster_columns(which.cluster))
    if which.caller_id:
        rows = rows.where(cancellations.c.caller_id == which.caller_id)
    if which.scope is not None:
        rows = rows.where(_is_in_scope(which.scope))
    if before:
        if not (before.isascii() and before.isdecimal() and len(before) <= 18):
            raise RequestInvalid(violations={"page_token": "is not one that this gateway has given"})
        rows = rows.where(cancellations.c.created < int(before))
    found = _read_all(connection, rows)
    more = str(found[limit - 1].created) if len(found) > limit else ""
    return HistoryPage(tuple(record.cancellation for record in found[:limit]), more)


def read_probe(connection: Connection) -> None:
    connection.execute(select(probe.c.time)).one()


def _is_in_scope(scope: ReadScope) -> ColumnElement[bool]:
    table = cancellations.c
    own = table.caller_id == scope.caller_id
    if not scope.clusters:
        return own
    named = [(each.account_id, each.region, each.name) for each in scope.clusters]
    return own | tuple_(table.account_id, table.region, table.cluster).in_(named)


def _cluster_columns(cluster: ClusterRef) -> dict[str, str]:
    return {"account_id": cluster.account_id, "region": cluster.region, "cluster": cluster.name}


def _read_one(connection: Connection, rows: Select[Any], **parameters: str) -> CancellationRecord | None:
    if any("\0" in each for each in parameters.values()):
        return None  # PostgreSQL refuses it, and stores none
    text = connection.execute(rows, parameters).scalar_one_or_none()
    return None if text is None else decode(CancellationRecord, text)


def _read_all(connection: Connection, rows: Select[Any], **parameters: str) -> list[CancellationRecord]:
    return [decode(CancellationRecord, text) for text in connection.execute(rows, parameters).scalars()]
