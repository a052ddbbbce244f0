"""The ledger's queries, as functions of a connection. Each is one statement, and so sees one snapshot.

Plain SQL, because building a statement takes longer than running it, and importing SQLAlchemy 0.1 s of CPU.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final, TypeVar

from eksgateway.ledger.database import Connection
from eksgateway.ledger.hash_chain import GENESIS, Checkpoint, Event
from eksgateway.ledger.projection import CancellationRecord, summarize
from eksgateway.ledger.protocol import CancellationSummary, Recorded
from eksgateway.ledger.record_texts import decode_record, encode_record
from eksgateway.ledger.unit_of_work import RequestKey
from eksgateway.model import ClusterRef, Observation, UpdateRef

T = TypeVar("T")

_SKEW: Final = timedelta(seconds=10)  # a replica that read an update without the database dated it itself

COLUMNS: Final = (  # of ``cancellations`` that a record determines: see ``to_row``
    *("account_id", "region", "cluster", "update_id", "cancellation_id", "created", "latest"),
    *("caller_id", "request_id", "phase", "pending", "record"),
)
DENIAL_COLUMNS: Final = ("id", "time", "body")
_HEAD: Final = "SELECT seq, hash FROM main.events ORDER BY seq DESC LIMIT 1"
EVENTS: Final = f"SELECT {', '.join(Event.__slots__)} FROM main.events"  # noqa: S608 - our own words
RECORDS: Final = "SELECT record, cancellation_id FROM main.cancellations"
_BY_ID: Final = " WHERE cancellation_id = :cancellation_id"
_BY_REQUEST: Final = " WHERE caller_id = :caller_id AND request_id = :request_id"
_OF_UPDATE: Final = (
    " WHERE account_id = :account_id AND region = :region AND cluster = :cluster AND update_id = :update_id"
)
BY_ID: Final = RECORDS + _BY_ID
BY_REQUEST: Final = RECORDS + _BY_REQUEST
PENDING_OF: Final = f"{RECORDS}{_OF_UPDATE} AND pending = 1 ORDER BY created"
NEWEST_OF: Final = f"{RECORDS}{_OF_UPDATE} ORDER BY created DESC LIMIT 1"
_SUMMARY_OF: Final = f"SELECT * FROM ({PENDING_OF}) AS open UNION ALL SELECT * FROM ({NEWEST_OF}) AS newest"  # noqa: S608 - our own words
_FORWARDS: Final = "SELECT record, replica, forward_before, {now} FROM main.cancellations"


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
        "record": encode_record(record),
    }


def insert(table: str, columns: Collection[str]) -> str:
    values = ", ".join(f":{each}" for each in columns)
    return f"INSERT INTO main.{table} ({', '.join(columns)}) VALUES ({values})"  # noqa: S608 - our own words


def event_row(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Event.__slots__}


def update_columns(ref: UpdateRef) -> dict[str, str]:
    return cluster_columns(ref.cluster) | {"update_id": ref.update_id}


def find_head(connection: Connection) -> Checkpoint:
    row = connection.execute(_HEAD).fetchone()
    return Checkpoint(*row) if row else GENESIS


def find_by_id(connection: Connection, cancellation_id: str) -> CancellationRecord | None:
    return _read_one(connection, BY_ID, cancellation_id=cancellation_id)


def find_by_request(connection: Connection, caller_id: str, request_id: str) -> CancellationRecord | None:
    return _read_one(connection, BY_REQUEST, caller_id=caller_id, request_id=request_id)


def find_pending(connection: Connection, replica: str) -> tuple[Recorded, ...]:
    """Oldest first. ``replica`` is this one."""
    return _read_forwards(connection, replica, " WHERE pending = 1 ORDER BY created", {})


def find_pending_ids(connection: Connection) -> dict[str, int]:
    """With the number of each one's newest event."""
    rows = connection.execute("SELECT cancellation_id, latest FROM main.cancellations WHERE pending = 1")
    return dict(rows.fetchall())


def look_up(connection: Connection, replica: str, caller_id: str, request_id: str) -> Recorded | None:
    parameters = {"caller_id": caller_id, "request_id": request_id}
    found = _read_forwards(connection, replica, _BY_REQUEST, parameters)
    return found[0] if found else None


def read_request_keys(connection: Connection, after: RequestKey, limit: int) -> list[RequestKey]:
    """In the order of their index, which has all that this reads."""
    where = "(caller_id, request_id) > (:caller_id, :request_id) ORDER BY caller_id, request_id LIMIT :limit"
    return connection.execute(
        f"SELECT caller_id, request_id FROM main.cancellations WHERE {where}",  # noqa: S608 - our own words
        {"caller_id": after[0], "request_id": after[1], "limit": limit},
    ).fetchall()


def read(connection: Connection, replica: str, cancellation_ids: Collection[str]) -> tuple[Recorded, ...]:
    if not cancellation_ids:
        return ()
    names, parameters = name_all("id", cancellation_ids)
    return _read_forwards(connection, replica, f" WHERE cancellation_id IN ({names})", parameters)


def _read_forwards(
    connection: Connection, replica: str, where: str, parameters: Mapping[str, str]
) -> tuple[Recorded, ...]:
    """``replica`` is this one. It is empty where there is no other, and nothing is in flight elsewhere."""
    rows = _FORWARDS.format(now="clock_timestamp()" if replica else "NULL") + where
    return tuple(_to_recorded(row, replica) for row in connection.execute(rows, parameters))


def _to_recorded(row: tuple[Any, ...], replica: str) -> Recorded:
    text, forwarder, forward_before, now = row
    record = decode_record(text)
    elsewhere, in_flight_s = forwarder not in (None, replica), 0.0
    if elsewhere and record.cancellation.outcome is None and not _is_from_the_future(record, now):
        in_flight_s = max(0.0, (forward_before - now).total_seconds())
    return Recorded(record.cancellation, record.latest, elsewhere, in_flight_s)


def _is_from_the_future(record: CancellationRecord, now: datetime) -> bool:
    """The database's clock was set back since. How long ago it was written is not known then."""
    return record.known_at is not None and record.known_at > now + _SKEW


def summarize_if_unchanged(
    connection: Connection, ref: UpdateRef, observation: Observation
) -> CancellationSummary | None:
    """The summary of an update, or None if the observation changes one of its cancellations."""
    rows = connection.execute(_SUMMARY_OF, update_columns(ref))
    stored = {key: record for record, key in rows}  # the newest one may be pending too
    records = sorted((decode_record(each) for each in stored.values()), key=attrgetter("created"))
    if any(each.is_changed_by(observation) for each in records):
        return None
    return summarize(records, records[-1] if records else None, observation)


def read_probe(connection: Connection) -> None:
    connection.execute("SELECT time FROM main.probe").fetchall()


def name_all(prefix: str, values: Iterable[T]) -> tuple[str, dict[str, T]]:
    """The values as parameters of a statement: their list, and each by its name."""
    named = {f"{prefix}{number}": value for number, value in enumerate(values)}
    return ", ".join(f":{name}" for name in named), named


def cluster_columns(cluster: ClusterRef) -> dict[str, str]:
    return {"account_id": cluster.account_id, "region": cluster.region, "cluster": cluster.name}


def _read_one(connection: Connection, rows: str, **parameters: str) -> CancellationRecord | None:
    if any("\0" in each for each in parameters.values()):
        return None  # PostgreSQL refuses it, and stores none
    row = connection.execute(rows, parameters).fetchone()
    return None if row is None else decode_record(row[0])
