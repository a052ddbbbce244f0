"""`eksgateway ledger`: prints what the ledger's own parts find; proves and decides nothing itself."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from operator import attrgetter
from pathlib import Path
from typing import assert_never

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eksgateway.ledger.codec import CodecError, decode, format_time
from eksgateway.ledger.hash_chain import Checkpoint, Event, EventKind
from eksgateway.ledger.inspection import open_snapshot
from eksgateway.ledger.listing import read_denials, read_events
from eksgateway.ledger.projection import DenialsLost
from eksgateway.ledger.sqlite.backup import back_up
from eksgateway.ledger.verify import verify
from eksgateway.model import Denial, Intent, Observation, Outcome
from eksgateway.settings import SettingsError


def verify_ledger(path: Path, checkpoint: str) -> int:
    """The exit code: 0 for a ledger that is whole and as it was written. Raises StartError."""
    try:
        known = Checkpoint.parse(checkpoint) if checkpoint else None
    except ValueError as exc:
        raise SettingsError(f"--checkpoint {checkpoint}: {exc}") from exc
    report = verify(path, known)
    if report.broken is not None:
        print(f"Broken at event {report.broken.seq}: {printable(report.broken.what)}.")
        print(f"The chain of hashes is sound up to event {report.head.seq}.")
        return 1
    if report.missing:
        print(f"Incomplete: {report.missing}.")
    what = "What is here is sound" if report.missing else "Sound"
    print(f"{what}: {report.events} events, {report.cancellations} cancellations.")
    print(f"Checkpoint: {report.head}")
    if report.missing:
        return 1
    print("Keep it elsewhere: given to --checkpoint, it shows when newer events were cut off.")
    return 0


def back_up_ledger(path: Path, copy: Path) -> None:
    """Copy a ledger and prove the copy. Raises StartError."""
    report = back_up(path, copy)
    print(f"Copied to {copy} and verified: {report.events} events, {report.cancellations} cancellations.")
    print(f"Checkpoint: {report.head}")


def list_ledger(path: Path, console: Console | None = None) -> None:
    """A table in a terminal, tab-separated lines in a pipe. Raises StartError."""
    with open_snapshot(path) as (_, missing):
        if missing:
            print(f"Incomplete: {missing}.", file=sys.stderr)
    console = console or Console(highlight=False)
    if console.is_terminal:
        console.print(_table(_entries(path)))
        return
    for entry in _entries(path):
        print("\t".join(astuple(entry)))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of the list. A denied cancel stands in the decision log, outside the chain: no ``seq``."""

    seq: str
    time: str
    kind: str
    cancellation_id: str
    what: str


def _table(entries: Iterator[_Entry]) -> Table:
    table = Table("", "time", "event", "cancellation", "what", box=box.SIMPLE_HEAD, pad_edge=False)
    for entry in entries:
        # The first eight characters of an id tell cancellations apart; the pipe has all of it.
        cells = (entry.seq, entry.time[:19], entry.kind, entry.cancellation_id[:8], entry.what)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _entries(path: Path) -> Iterator[_Entry]:
    """Events and denied cancels, oldest first."""
    return heapq.merge(
        map(_happened, read_events(path)), map(_denied, read_denials(path)), key=attrgetter("time")
    )


def _happened(event: Event) -> _Entry:
    cancellation_id, kind, time = (
        printable(text) for text in (event.cancellation_id, event.kind, event.time)
    )
    return _Entry(str(event.seq), time, kind, cancellation_id, printable(_what(event)))


def _denied(denial: Denial) -> _Entry:
    ref, reasons = denial.request.ref, " ".join(denial.decision.reasons)
    what = printable(f"{denial.caller.id} on {ref}: {reasons}")
    return _Entry("", format_time(denial.time), "denied", "", what)


def _what(event: Event) -> str:
    """What an event says, in a line. One that was tampered with may say anything."""
    try:
        return _told(EventKind(event.kind), event.body)
    except (ValueError, CodecError):
        return f"not readable: {event.body}"


def _told(kind: EventKind, body: str) -> str:
    match kind:
        case EventKind.INTENT:
            return _intent(decode(Intent, body))
        case EventKind.INTENT_RENEWED:
            return f"allowed again by {', '.join(decode(Intent, body).decision.rule_ids)}"
        case EventKind.OUTCOME | EventKind.CLOSED:
            outcome = decode(Outcome, body)
            return f"{outcome.kind}: {outcome.error.reason}" if outcome.error else str(outcome.kind)
        case EventKind.OBSERVATION:
            seen = decode(Observation, body)
            return seen.update.status if seen.update else seen.note
        case EventKind.DENIALS_LOST:
            lost = decode(DenialsLost, body)
            went = "were dropped, the oldest of a full log" if lost.full else "could not be written down"
            return f"{lost.count} denied cancels {went}"
        case _:
            assert_never(kind)


def _intent(intent: Intent) -> str:
    why = "".join(f", {name} {text!r}" for name, text in asdict(intent.request.justification).items() if text)
    return f"{intent.caller.id} on {intent.request.ref}, {intent.update.type}{why}"


def printable(text: str) -> str:
    """The text with nothing in it that a terminal would obey, and no tab or line break."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in str(text))
