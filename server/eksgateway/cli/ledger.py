"""`eksgateway ledger`: prints the results of `eksgateway.ledger`."""

from __future__ import annotations

import gc
import heapq
import sys
from collections.abc import Iterator
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, assert_never

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eksgateway.ledger.codec import CodecError, decode, format_time
from eksgateway.ledger.database import LedgerLocation
from eksgateway.ledger.hash_chain import Checkpoint, Event, EventKind
from eksgateway.ledger.inspection import open_snapshot, read_denials, read_events
from eksgateway.ledger.migrate import REVISION
from eksgateway.ledger.projection import DenialsLost
from eksgateway.ledger.sqlite.backup import back_up
from eksgateway.ledger.verify import verify
from eksgateway.model import Denial, Intent, Observation, Outcome
from eksgateway.settings import PostgresLocation, SettingsError


def verify_ledger(location: LedgerLocation, checkpoint: str) -> int:
    """Return the exit code: 0 for a complete and sound ledger. Raises StartError."""
    try:
        known = Checkpoint.parse(checkpoint) if checkpoint else None
    except ValueError as exc:
        raise SettingsError(f"--checkpoint {checkpoint}: {exc}") from exc
    gc.disable()  # saves 1 of 16 µs for each event; nothing in ``verify`` makes cycles
    report = verify(location, known)
    if report.broken is not None:
        print(f"Broken at event {report.broken.seq}: {escape_unprintable(report.broken.what)}.")
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


def back_up_ledger(location: LedgerLocation, copy: Path) -> None:
    """Raises StartError."""
    report = back_up(location, copy)
    print(f"Copied to {copy} and verified: {report.events} events, {report.cancellations} cancellations.")
    print(f"Checkpoint: {report.head}")


def list_ledger(location: LedgerLocation, console: Console | None = None) -> None:
    """Print a table to a terminal, tab-separated lines to a pipe. Raises StartError."""
    with open_snapshot(location) as (_, missing):
        if missing:
            print(f"Incomplete: {missing}.", file=sys.stderr)
    console = console or Console(highlight=False)
    if console.is_terminal:
        console.print(_table(_lines(location)))
        return
    for line in _lines(location):
        print("\t".join(line))


def migrate_ledger(location: PostgresLocation, role: str) -> None:
    """Raises StartError."""
    from eksgateway.ledger.postgres.migration import migrate_database  # noqa: PLC0415 - loads psycopg

    before, could_change_all = migrate_database(location, role)
    done = {REVISION: "is there", "": "was created"}.get(before, f"was migrated from {before}")
    print(f"{location}: schema {location.schema}, revision {REVISION}, {done}.")
    if could_change_all:
        print(
            f"The role {role} could change all of it, as its owner or a superuser: name another with --role."
        )
    else:
        print(f"The role {role} has the rights of a gateway.")


def copy_ledger(path: Path, location: PostgresLocation) -> None:
    """Raises StartError."""
    from eksgateway.ledger.postgres.import_file import import_file  # noqa: PLC0415 - loads psycopg

    report = import_file(path, location)
    print(f"Copied to {location} and verified: {report.events} events, {report.cancellations} cancellations.")
    print(f"Checkpoint: {report.head}")
    print(f"Start no gateway on {path} again: it would begin a second history.")


class _Line(NamedTuple):
    """Denied cancels are outside the chain, and have no ``seq``."""

    seq: str
    time: str
    kind: str
    cancellation_id: str
    what: str


def _table(lines: Iterator[_Line]) -> Table:
    table = Table("", "time", "event", "cancellation", "what", box=box.SIMPLE_HEAD, pad_edge=False)
    for line in lines:
        # A pipe gets all of the time and the id.
        cells = (line.seq, line.time[:19], line.kind, line.cancellation_id[:8], line.what)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _lines(location: LedgerLocation) -> Iterator[_Line]:
    return heapq.merge(
        map(_event_line, read_events(location)),
        map(_denial_line, read_denials(location)),
        key=attrgetter("time"),
    )


def _event_line(event: Event) -> _Line:
    cells = (event.seq, event.time, event.kind, event.cancellation_id, _describe(event))
    return _Line(*map(escape_unprintable, cells))


def _denial_line(denial: Denial) -> _Line:
    what = f"{denial.caller.id} on {denial.request.ref}: {' '.join(denial.decision.reasons)}"
    return _Line("", format_time(denial.time), "denied", "", escape_unprintable(what))


def _describe(event: Event) -> str:
    try:
        return _describe_body(EventKind(event.kind), event.body)
    except (ValueError, CodecError):  # the body of a changed event may hold anything
        return f"not readable: {event.body}"


def _describe_body(kind: EventKind, body: str) -> str:
    match kind:
        case EventKind.INTENT:
            intent = decode(Intent, body)
            justification = asdict(intent.request.justification)
            why = "".join(f", {name} {text!r}" for name, text in justification.items() if text)
            return f"{intent.caller.id} on {intent.request.ref}, {intent.update.type}{why}"
        case EventKind.INTENT_RENEWED:
            return f"allowed again by {', '.join(decode(Intent, body).decision.rule_ids)}"
        case EventKind.OUTCOME | EventKind.CLOSED:
            outcome = decode(Outcome, body)
            return f"{outcome.kind}: {outcome.error.reason}" if outcome.error else str(outcome.kind)
        case EventKind.OBSERVATION:
            observation = decode(Observation, body)
            return observation.update.status if observation.update else observation.note
        case EventKind.DENIALS_LOST:
            lost = decode(DenialsLost, body)
            why = "were dropped, the oldest of a full log" if lost.full else "could not be written down"
            return f"{lost.count} denied cancels {why}"
        case _:
            assert_never(kind)


def escape_unprintable(text: object) -> str:
    """Write control characters, tabs and line breaks as escape sequences."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in str(text))
