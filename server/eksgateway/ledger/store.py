"""The ledger's writes, as functions of a transaction of the writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from eksgateway import errors
from eksgateway.ledger import queries
from eksgateway.ledger.codec import encode, format_time
from eksgateway.ledger.database import Database
from eksgateway.ledger.hash_chain import Checkpoint, Event, EventKind, link
from eksgateway.ledger.projection import CancellationRecord, DenialsLost, fold
from eksgateway.ledger.protocol import CancellationSummary
from eksgateway.ledger.schema import cancellations, decisions, events, probe
from eksgateway.model import Cancellation, Intent, Observation, Outcome, OutcomeKind, Phase, UpdateRef

# Built once, because building a statement takes longer than running it.
_ADD_EVENT: Final = insert(events)
_ADD_CANCELLATION: Final = insert(cancellations)
_UPDATE_CANCELLATION: Final = update(cancellations).where(cancellations.c.cancellation_id == bindparam("key"))
# Two selects, each answered by the index. A single one reads every row.
_DENIAL_IDS: Final = select(
    select(func.min(decisions.c.id)).scalar_subquery(), select(func.max(decisions.c.id)).scalar_subquery()
)
_DROPPED: Final = 500  # most denials that one operation removes


class TransactionLost(Exception):
    """The database has rolled the whole transaction back because of an error in it."""


class Transaction:
    """A transaction that holds the write lock, and the chain's head."""

    def __init__(self, database: Database, connection: Connection, now: Callable[[], datetime]) -> None:
        self.database = database
        self.connection = connection
        self.head = queries.find_head(connection)
        self._now = now

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Roll back the block alone if it raises.

        Raises TransactionLost if the database has rolled back everything: without a transaction, each
        further statement would be committed by itself.
        """
        head = self.head
        # ``begin_nested`` compiles its statements for each savepoint anew.
        self.connection.exec_driver_sql("SAVEPOINT operation")
        try:
            yield
        except BaseException as exc:
            self.head = head
            if not self.database.in_transaction(self.connection):
                raise TransactionLost from exc
            self.connection.exec_driver_sql("ROLLBACK TO SAVEPOINT operation")
            self.connection.exec_driver_sql("RELEASE SAVEPOINT operation")
            raise
        self.connection.exec_driver_sql("RELEASE SAVEPOINT operation")

    def append(self, kind: EventKind, cancellation_id: str, body: Any) -> Event:
        event = link(self.head, self.format_now(), kind, cancellation_id, encode(body))
        row = {name: getattr(event, name) for name in Event.__slots__}
        self.connection.execute(_ADD_EVENT, row)
        self.head = event.checkpoint
        return event

    def advance(self, record: CancellationRecord, kind: EventKind, body: Any) -> CancellationRecord:
        """Append an event of a cancellation, and update its row."""
        key = record.cancellation.id
        record = fold(record, self.append(kind, key, body))
        self.connection.execute(_UPDATE_CANCELLATION, queries.to_row(record) | {"key": key})
        return record

    def read_record(self, cancellation_id: str) -> CancellationRecord:
        record = queries.find_by_id(self.connection, cancellation_id)
        if record is None:
            raise errors.CancellationNotFound
        return record

    def format_now(self) -> str:
        return format_time(self._now())


def add_intent(transaction: Transaction, intent: Intent) -> Cancellation:
    """Raises RequestIdReused when the caller has used the request_id before."""
    record = fold(None, transaction.append(EventKind.INTENT, intent.cancellation_id, intent))
    try:
        transaction.connection.execute(_ADD_CANCELLATION, queries.to_row(record))
    except IntegrityError as exc:
        raise errors.RequestIdReused(metadata={"request_id": intent.request_id}) from exc
    return record.cancellation


def renew_intent(transaction: Transaction, intent: Intent) -> Cancellation:
    """Raises DecisionStale unless the cancellation is NOT_FORWARDED."""
    record = transaction.read_record(intent.cancellation_id)
    if record.cancellation.phase is not Phase.NOT_FORWARDED:
        raise errors.DecisionStale(
            "Another call has taken this cancellation up: nothing was sent. Call again."
        )
    return transaction.advance(record, EventKind.INTENT_RENEWED, intent).cancellation


def add_outcome(
    transaction: Transaction, cancellation_id: str, outcome: Outcome
) -> tuple[Cancellation, Checkpoint]:
    """Also returns the chain's head, for the log."""
    record = transaction.advance(transaction.read_record(cancellation_id), EventKind.OUTCOME, outcome)
    return record.cancellation, transaction.head


def add_outcome_once(transaction: Transaction, cancellation_id: str, outcome: Outcome) -> Checkpoint | None:
    """``add_outcome``, unless an earlier attempt wrote the outcome and its result was not seen."""
    same = (
        select(events.c.seq)
        .where(events.c.cancellation_id == cancellation_id)
        .where(events.c.kind == EventKind.OUTCOME.value)
        .where(events.c.body == encode(outcome))
    )
    if transaction.connection.execute(same.limit(1)).first() is not None:
        return None
    return add_outcome(transaction, cancellation_id, outcome)[1]


def close_intent(transaction: Transaction, intent: Intent, time: datetime) -> Checkpoint | None:
    """Close an intent that was recorded after its caller got LedgerUnavailable at ``time``."""
    record = queries.find_by_id(transaction.connection, intent.cancellation_id)
    if record is None or record.cancellation.outcome is not None:
        return None
    if record.cancellation.intent.decision.decision_id != intent.decision.decision_id:
        return None  # another call has renewed it
    error = errors.record(errors.LedgerUnavailable())
    transaction.advance(record, EventKind.CLOSED, Outcome(OutcomeKind.NOT_FORWARDED, time, error=error))
    return transaction.head


def summarize_if_unchanged(
    connection: Connection, ref: UpdateRef, observation: Observation
) -> CancellationSummary | None:
    """The summary of an update, or None if the observation changes one of its cancellations."""
    if any(_changes(record.cancellation, observation) for record in queries.find_pending_of(connection, ref)):
        return None
    return queries.summarize(connection, ref)


def add_observations(
    transaction: Transaction, ref: UpdateRef, earlier: Sequence[Observation], observation: Observation
) -> CancellationSummary:
    """Record an observation, after the ``earlier`` ones that could not be written when they were made.

    Only a cancellation that an observation changes gets an event, and none gets an earlier observation that
    is older than its newest event: that one is written already, or the cancellation is younger.
    """
    for each in (*earlier, observation):
        for record in queries.find_pending_of(transaction.connection, ref):
            late = each is not observation and each.time < record.cancellation.update_time
            if not late and _changes(record.cancellation, each):
                transaction.advance(record, EventKind.OBSERVATION, each)
    return queries.summarize(transaction.connection, ref)


def _changes(cancellation: Cancellation, observation: Observation) -> bool:
    """Whether an observation changes a cancellation that is not settled."""
    if observation.update is None or observation.update != cancellation.update:
        return True
    noted = observation.note in ("", cancellation.phase_reason)
    return cancellation.phase is Phase.OUTCOME_UNKNOWN and not noted


def add_denials(transaction: Transaction, bodies: Sequence[str], lost: int) -> None:
    """Write a batch of the denial log, and the number of denials that were lost."""
    time = transaction.format_now()
    if bodies:
        rows = [{"time": time, "body": body} for body in bodies]
        transaction.connection.execute(insert(decisions), rows)
    if lost:
        transaction.append(EventKind.DENIALS_LOST, "", DenialsLost(lost))


def drop_oldest_denials(transaction: Transaction, keep: int, *, begun: bool) -> bool:
    """Remove some of the oldest denials beyond ``keep``, and record their number. True if more must go.

    Removal begins when there are a tenth more, so that a flood of denials is no flood of events. Each call
    removes a bounded number, so that no cancel waits long behind it.
    """
    first, last = transaction.connection.execute(_DENIAL_IDS).one()
    tolerated = keep if begun else keep + keep // 10
    if first is None or last - first + 1 <= tolerated:
        return False
    end = min(last - keep, first + _DROPPED - 1)  # ids have no gaps
    dropped = transaction.connection.execute(delete(decisions).where(decisions.c.id <= end)).rowcount
    transaction.append(EventKind.DENIALS_LOST, "", DenialsLost(dropped, full=True))
    return bool(end < last - keep)


def write_probe(transaction: Transaction) -> None:
    """Test whether writing works."""
    transaction.connection.execute(update(probe).values(time=transaction.format_now()))
