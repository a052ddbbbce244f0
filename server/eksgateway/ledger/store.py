"""What is written into the ledger, as functions of one transaction of the writer's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

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
from eksgateway.model import Cancellation, Intent, Observation, Outcome, Phase, UpdateRef

# Built once: building a statement costs more than running it.
_ADD_EVENT = insert(events)
_ADD = insert(cancellations)
# Two selects, each answered from an end of the key: one with both reads every row.
_DENIAL_IDS = select(
    select(func.min(decisions.c.id)).scalar_subquery(), select(func.max(decisions.c.id)).scalar_subquery()
)
_DROPPED = 500  # denials that one operation removes at most
_CHANGE = update(cancellations).where(cancellations.c.cancellation_id == bindparam("key"))


class TransactionLost(Exception):
    """SQLite has ended the whole transaction because of an error in it."""


class Transaction:
    """A transaction that holds the write lock, and the chain's head in it."""

    def __init__(self, database: Database, connection: Connection, now: Callable[[], datetime]) -> None:
        self.database = database
        self.connection = connection
        self.head = queries.head(connection)
        self._now = now

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what is inside when it raises, and nothing else. Raises TransactionLost where SQLite has
        undone everything: without a transaction, what follows would be committed statement by statement.
        """
        head = self.head
        # Not ``begin_nested``, which compiles its statements anew for each savepoint.
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
        event = link(self.head, self.time(), kind, cancellation_id, encode(body))
        row = {name: getattr(event, name) for name in Event.__slots__}
        self.connection.execute(_ADD_EVENT, row)
        self.head = event.checkpoint
        return event

    def advance(self, record: CancellationRecord, kind: EventKind, body: Any) -> CancellationRecord:
        """Append one event of a cancellation, and fold it into the projection."""
        key = record.cancellation.id
        record = fold(record, self.append(kind, key, body))
        self.connection.execute(_CHANGE, queries.to_row(record) | {"key": key})
        return record

    def record(self, cancellation_id: str) -> CancellationRecord:
        found = queries.by_id(self.connection, cancellation_id)
        if found is None:
            raise errors.CancellationNotFound
        return found

    def time(self) -> str:
        return format_time(self._now())


def add_intent(transaction: Transaction, intent: Intent) -> Cancellation:
    """Raises RequestIdReused when the caller has used the request_id before."""
    record = fold(None, transaction.append(EventKind.INTENT, intent.cancellation_id, intent))
    try:
        transaction.connection.execute(_ADD, queries.to_row(record))
    except IntegrityError as exc:
        raise errors.RequestIdReused(metadata={"request_id": intent.request_id}) from exc
    return record.cancellation


def renew_intent(transaction: Transaction, intent: Intent) -> Cancellation:
    """Raises DecisionStale when the cancellation no longer waits for a decision."""
    record = transaction.record(intent.cancellation_id)
    if record.cancellation.phase is not Phase.NOT_FORWARDED:
        raise errors.DecisionStale(
            "Another call has taken this cancellation up: nothing was sent. Call again."
        )
    return transaction.advance(record, EventKind.INTENT_RENEWED, intent).cancellation


def add_outcome(
    transaction: Transaction, cancellation_id: str, outcome: Outcome
) -> tuple[Cancellation, Checkpoint]:
    """Also gives the chain's head, for the log."""
    record = transaction.advance(transaction.record(cancellation_id), EventKind.OUTCOME, outcome)
    return record.cancellation, transaction.head


def add_outcome_once(transaction: Transaction, cancellation_id: str, outcome: Outcome) -> Checkpoint | None:
    """As ``add_outcome``, for one that may have been written by an attempt whose end was not seen."""
    same = (
        select(events.c.seq)
        .where(events.c.cancellation_id == cancellation_id)
        .where(events.c.kind == EventKind.OUTCOME.value)
        .where(events.c.body == encode(outcome))
    )
    if transaction.connection.execute(same.limit(1)).first() is not None:
        return None
    return add_outcome(transaction, cancellation_id, outcome)[1]


def close_intent(
    transaction: Transaction, cancellation_id: str, decision_id: str, outcome: Outcome
) -> Checkpoint | None:
    """Close an intent whose caller was told that it is not recorded, if it was recorded after all."""
    record = queries.by_id(transaction.connection, cancellation_id)
    if record is None or record.cancellation.outcome is not None:
        return None
    if record.cancellation.intent.decision.decision_id != decision_id:
        return None  # renewed meanwhile, by a call of its own
    transaction.advance(record, EventKind.CLOSED, outcome)
    return transaction.head


def summarize_if_unchanged(
    connection: Connection, ref: UpdateRef, observation: Observation
) -> CancellationSummary | None:
    """What is known of an update, or None when an observation changes any of its cancellations."""
    if any(_changes(record.cancellation, observation) for record in queries.pending_of(connection, ref)):
        return None
    return queries.summarize(connection, ref)


def add_observations(
    transaction: Transaction, ref: UpdateRef, earlier: Sequence[Observation], observation: Observation
) -> CancellationSummary:
    """An observation, and those before it that could not be written when they were made.

    Only cancellations that an observation changes get an event. An earlier one is not for a cancellation
    of which something later is recorded: it may have been written already, or the cancellation be younger.
    """
    for each in (*earlier, observation):
        for record in queries.pending_of(transaction.connection, ref):
            late = each is not observation and each.time < record.cancellation.update_time
            if not late and _changes(record.cancellation, each):
                transaction.advance(record, EventKind.OBSERVATION, each)
    return queries.summarize(transaction.connection, ref)


def _changes(cancellation: Cancellation, observation: Observation) -> bool:
    """Whether an observation says anything new about a cancellation that is not settled."""
    if observation.update is None or observation.update != cancellation.update:
        return True
    noted = observation.note in ("", cancellation.phase_reason)
    return cancellation.phase is Phase.OUTCOME_UNKNOWN and not noted


def add_denials(transaction: Transaction, bodies: Sequence[str], lost: int) -> None:
    """A batch of the decision log, and how many never made it into one."""
    time = transaction.time()
    if bodies:
        rows = [{"time": time, "body": body} for body in bodies]
        transaction.connection.execute(insert(decisions), rows)
    if lost:
        transaction.append(EventKind.DENIALS_LOST, "", DenialsLost(lost))


def drop_oldest_denials(transaction: Transaction, keep: int, *, begun: bool) -> bool:
    """Remove some of the oldest denials beyond ``keep``, and write down how many; whether more have to go.

    It begins when there are a tenth more, so that a flood of denials is no flood of events. Each call
    removes a bounded number, so that no cancel waits long behind it.
    """
    first, last = transaction.connection.execute(_DENIAL_IDS).one()
    tolerated = keep if begun else keep + keep // 10
    if first is None or last - first + 1 <= tolerated:
        return False
    end = min(last - keep, first + _DROPPED - 1)  # ids follow one another without gaps
    dropped = transaction.connection.execute(delete(decisions).where(decisions.c.id <= end)).rowcount
    transaction.append(EventKind.DENIALS_LOST, "", DenialsLost(dropped, full=True))
    return bool(end < last - keep)


def touch(transaction: Transaction) -> None:
    """Write something, to learn whether writing works."""
    transaction.connection.execute(update(probe).values(time=transaction.time()))
