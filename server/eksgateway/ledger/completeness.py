"""Judges whether a database holds every event that was written into the ledger.

Two witnesses: the file ``.head`` beside the ledger names the newest event, and a mark in the database
itself (SQLite's ``user_version``) goes with every copy of the main file:

    CLOSED ──start──► IN_USE ──clean end──► CLOSED          BACKUP: made by ``backup``, until a start

The start copies IN_USE into the main file and leaves the -wal file filled, and every later commit leaves
it filled too. A main file that is IN_USE and has no -wal file beside it therefore lacks what was there.
"""

from __future__ import annotations

import sqlite3
from enum import IntEnum
from pathlib import Path

from sqlalchemy import Connection

from eksgateway.ledger import queries
from eksgateway.ledger.files import beside
from eksgateway.ledger.hash_chain import Checkpoint


class UsageMark(IntEnum):
    """Values of ``user_version``. Ledgers of versions up to 0.1.0 have 0 all the time."""

    CLOSED = 0
    IN_USE = 1
    BACKUP = 2


def read_mark(connection: Connection) -> int:
    """The mark, as the connection's snapshot has it."""
    value = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    return int(value)


def write_mark(connection: sqlite3.Connection, mark: UsageMark) -> None:
    """Change the mark: a write like any other."""
    connection.execute(f"PRAGMA user_version={mark.value}")


def missing(connection: Connection, path: Path, known: Checkpoint | None, *, has_wal: bool) -> str:
    """What a ledger lacks, and what to do about it; empty for one that is whole.

    ``known`` is what ``read_head`` gave before the snapshot began, and ``has_wal`` whether there were
    commits in the -wal file.
    """
    mark, head = read_mark(connection), queries.head(connection)
    note = beside(path, ".head")
    if known is not None and known.seq > head.seq and mark != UsageMark.BACKUP:
        return (
            f"its newest events are missing: it ends at event {head.seq}, and event {known.seq} was written"
            f" ({note} says so). Its -wal file was removed or cut, or an older copy was put in its place."
            f" Restore the newest backup. To go on without these events, write {head} into {note}"
        )
    if known is None and mark == UsageMark.IN_USE and not has_wal:
        return (
            "it lacks its -wal file, and with it what was written since the last start of the gateway that"
            " used it: the file was copied alone while a gateway ran, or the -wal file was removed. Copy a"
            " ledger with `eksgateway ledger backup FILE COPY`, and restore such a copy. To go on with the"
            f" {head.seq} events that are here, write {head} into {note}"
        )
    return ""
