"""The ledger's queries, as functions of a connection; the writer uses them too."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, bindparam, select, tuple_

from eksgateway.errors import RequestInvalid
from eksgateway.ledger.codec import decode, encode
from eksgateway.ledger.hash_chain import GENESIS, Checkpoint
from eksgateway.ledger.projection import CancellationRecord
from eksgateway.ledger.protocol import CancellationSummary, HistoryFilter, HistoryPage, ReadScope
from eksgateway.ledger.schema import cancellations, events, probe
from eksgateway.model import Cancellation, ClusterRef, UpdateRef

_RECORD: Final = cancellations.c.record

# Built once, because building a statement takes longer than running it.
_HEAD: Final = select(events.c.seq, events.c.hash).order_by(events.c.seq.desc()).limit(1)
_BY_ID: Final = select(_RECORD).where(cancellations.c.cancellation_id == bindparam("cancellation_id"))
_BY_REQUEST: Final = (
    select(_RECORD)
    .where(cancellations.c.caller_id == bindparam("caller_id"))
    .where(cancellations.c.request_id == bindparam("request_id"))
)
_OF_UPDATE: Final = (
    select(_RECORD)
    .where(cancellations.c.account_id == bindparam("account_id"))
    .where(cancellations.c.region == bindparam("region"))
    .where(cancellations.c.cluster == bindparam("cluster"))
    .where(cancellations.c.update_id == bindparam("update_id"))
)
_PENDING_OF: Final = _OF_UPDATE.where(cancellations.c.pending).order_by(cancellations.c.created)
_NEWEST_OF: Final = _OF_UPDATE.order_by(cancellations.c.created.desc()).limit(1)
_ANY_PENDING_OF: Final = _PENDING_OF.limit(1)


def to_row(record: CancellationRecord) -> dict[str, Any]:
    """A record's row of ``cancellations``."""
    intent = record.cancellation.intent
    return _update_columns(intent.request.ref) | {
        "cancellation_id": intent.cancellation_id,
        "created": record.created,
        "latest": record.latest,
        "caller_id": intent.caller.id,
        "request_id": intent.request_id,
        "phase": record.cancellation.phase.value,
        "pending": not record.cancellation.settled,
        "record": encode(record),
    }


def find_head(connection: Connection) -> Checkpoint:
    """The newest event."""
    row = connection.execute(_HEAD).one_or_none()
    return Checkpoint(row.seq, row.hash) if row else GENESIS


def find_by_id(connection: Connection, cancellation_id: str) -> CancellationRecord | None:
    return _read_one(connection, _BY_ID, cancellation_id=cancellation_id)


def find_by_request(connection: Connection, caller_id: str, request_id: str) -> CancellationRecord | None:
    return _read_one(connection, _BY_REQUEST, caller_id=caller_id, request_id=request_id)


def find_pending(connection: Connection) -> tuple[Cancellation, ...]:
    """All cancellations that are not settled, oldest first."""
    rows = select(_RECORD).where(cancellations.c.pending).order_by(cancellations.c.created)
    return tuple(_record(row).cancellation for row in connection.execute(rows).mappings())


def find_pending_of(connection: Connection, ref: UpdateRef) -> tuple[CancellationRecord, ...]:
    """An update's cancellations that are not settled, oldest first."""
    return tuple(_record(row) for row in connection.execute(_PENDING_OF, _update_columns(ref)).mappings())


def summarize(connection: Connection, ref: UpdateRef) -> CancellationSummary:
    newest = _read_one(connection, _NEWEST_OF, **_update_columns(ref))
    pending_row = connection.execute(_ANY_PENDING_OF, _update_columns(ref)).first()
    return CancellationSummary(newest.cancellation if newest else None, pending_row is not None)


def find_clusters(connection: Connection, caller_id: str) -> tuple[ClusterRef, ...]:
    """The clusters with cancellations of this caller; of all callers when ``caller_id`` is empty."""
    table = cancellations.c
    rows = select(table.account_id, table.region, table.cluster).distinct()
    if caller_id:
        rows = rows.where(table.caller_id == caller_id)
    return tuple(ClusterRef(*row) for row in connection.execute(rows))


def read_page(connection: Connection, which: HistoryFilter, limit: int, before: str) -> HistoryPage:
    """Newest first. Raises RequestInvalid for a ``before`` that is not from a page."""
    rows = select(_RECORD).order_by(cancellations.c.created.desc()).limit(limit + 1)
    if which.cluster is not None:
        rows = rows.where(_is_cluster(which.cluster))
    if which.caller_id:
        rows = rows.where(cancellations.c.caller_id == which.caller_id)
    if which.scope is not None:
        rows = rows.where(_is_in_scope(which.scope))
    if before:
        if not (before.isascii() and before.isdecimal() and len(before) <= 18):
            raise RequestInvalid(violations={"page_token": "is not one that this gateway has given"})
        rows = rows.where(cancellations.c.created < int(before))
    found = [_record(row) for row in connection.execute(rows).mappings()]
    more = str(found[limit - 1].created) if len(found) > limit else ""
    return HistoryPage(tuple(record.cancellation for record in found[:limit]), more)


def read_probe(connection: Connection) -> None:
    """Test whether reading works."""
    connection.execute(select(probe.c.time)).one()


def _is_cluster(cluster: ClusterRef) -> ColumnElement[bool]:
    table = cancellations.c
    return (
        (table.account_id == cluster.account_id)
        & (table.region == cluster.region)
        & (table.cluster == cluster.name)
    )


def _is_in_scope(scope: ReadScope) -> ColumnElement[bool]:
    table = cancellations.c
    own = table.caller_id == scope.caller_id
    if not scope.clusters:
        return own
    named = [(each.account_id, each.region, each.name) for each in scope.clusters]
    return own | tuple_(table.account_id, table.region, table.cluster).in_(named)


def _update_columns(ref: UpdateRef) -> dict[str, str]:
    cluster = ref.cluster
    return {
        "account_id": cluster.account_id,
        "region": cluster.region,
        "cluster": cluster.name,
        "update_id": ref.update_id,
    }


def _read_one(connection: Connection, rows: Select[Any], **parameters: str) -> CancellationRecord | None:
    row = connection.execute(rows, parameters).mappings().one_or_none()
    return None if row is None else _record(row)


def _record(row: RowMapping) -> CancellationRecord:
    return decode(CancellationRecord, row["record"])
