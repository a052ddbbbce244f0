"""Verifies a ledger: the hash chain, and the cancellations folded from it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from eksgateway.ledger.database import LedgerLocation, Snapshot
from eksgateway.ledger.hash_chain import GENESIS, Checkpoint, Event, digest_of, find_fault
from eksgateway.ledger.histories import ROWS, Histories
from eksgateway.ledger.inspection import open_snapshot
from eksgateway.ledger.queries import EVENTS
from eksgateway.ledger.verify_projection import Defect, verify_projection


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """``head`` is the checkpoint to keep. ``missing`` names written events that are not there."""

    events: int
    cancellations: int
    head: Checkpoint
    broken: Defect | None = None
    missing: str = ""


def verify(location: LedgerLocation, checkpoint: Checkpoint | None = None) -> VerifyReport:
    """Also verify that the ledger contains an earlier checkpoint: without one, the removal of the newest
    events may not show. Raises LedgerError for a ledger that cannot be read.
    """
    with open_snapshot(location) as (snapshot, missing):
        return replace(verify_snapshot(snapshot, checkpoint), missing=missing)


def verify_snapshot(snapshot: Snapshot, checkpoint: Checkpoint | None = None) -> VerifyReport:
    """A sound ledger is proved sound in one pass. In another one, ``verify_projection`` finds the defect."""
    with ExitStack() as streams:
        events = streams.enter_context(snapshot.stream(f"{EVENTS} ORDER BY seq"))
        histories = Histories(streams.enter_context(snapshot.stream(ROWS)))
        head, what = _verify_events(events, histories, checkpoint)
        proved = histories.are_proved(snapshot)
    if what:
        return VerifyReport(head.seq, 0, head, Defect(head.seq + 1, what))
    cancellations, broken = (histories.proved, None) if proved else verify_projection(snapshot)
    return VerifyReport(head.seq, cancellations, head, broken)


def _verify_events(
    events: Iterable[Any], histories: Histories, checkpoint: Checkpoint | None
) -> tuple[Checkpoint, str]:
    """The last event of the sound part of the chain, and why the next one is none; empty at the end."""
    head, marked = GENESIS, checkpoint.seq if checkpoint else -1
    seq, digest = head.seq, head.hash
    for event in events:
        if not _follows(seq, digest, event) or event[0] == marked:
            head = Checkpoint(seq, digest)
            if what := find_fault(head, Event(*event)) or _contradicts(checkpoint, event):
                return head, what
        seq, time, kind, cancellation_id, body, _, digest = event
        histories.add(cancellation_id, (seq, time, kind, body))
    if seq < marked:
        return Checkpoint(seq, digest), f"the checkpoint names event {marked}: the tail was cut off"
    return Checkpoint(seq, digest), ""


def _follows(seq: int, digest: str, event: Any) -> bool:
    """``find_fault`` without an object for each event: 5 µs instead of 7.5."""
    try:
        follows: bool = event[0] == seq + 1 and event[5] == digest and event[6] == digest_of(*event[:6])
    except TypeError:
        return False
    return follows and type(event[0]) is int


def _contradicts(checkpoint: Checkpoint | None, event: Any) -> str:
    if checkpoint is None or event[0] != checkpoint.seq or event[6] == checkpoint.hash:
        return ""
    return "it is not the event that the checkpoint names: the chain was written anew"
