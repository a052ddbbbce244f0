"""Finds out whether a database holds every event that was written into the ledger.

The file ``.head`` beside the ledger names the newest event. A mark in the database (SQLite's
``user_version``) is part of every copy of the main file:

    CLOSED ──start──► IN_USE ──clean end──► CLOSED          BACKUP: made by ``backup``, until a start

The start copies IN_USE into the main file and leaves the -wal file filled, as does every commit. So a main
file that is IN_USE but has no -wal file lacks events.
"""

from __future__ import annotations

import sqlite3
from enum import IntEnum
from pathlib import Path

from eksgateway.ledger import queries
from eksgateway.ledger.database import Connection
from eksgateway.ledger.hash_chain import Checkpoint
from eksgateway.ledger.sqlite.files import beside


class UsageMark(IntEnum):
    """In ledgers of versions up to 0.1.0 it is always 0."""

    CLOSED = 0
    IN_USE = 1
    BACKUP = 2


def read_mark(connection: Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def write_mark(connection: sqlite3.Connection, mark: UsageMark) -> None:
    connection.execute(f"PRAGMA user_version={mark.value}")


def find_missing_events(
    connection: Connection, path: Path, noted_head: Checkpoint | None, *, has_wal: bool
) -> str:
    """Text about the events that a ledger lacks; empty if it is complete.

    ``noted_head`` was read before the snapshot began. ``has_wal``: the -wal file held commits.
    """
    mark, head = read_mark(connection), queries.find_head(connection)
    note = beside(path, ".head")
    if noted_head is not None and noted_head.seq > head.seq and mark != UsageMark.BACKUP:
        return (
            f"its newest events are missing: it ends at event {head.seq}, and event {noted_head.seq} was"
            f" written ({note} names it). Its -wal file was removed or cut, or an older copy was put in its"
            f" place. Restore the newest backup. To go on without these events, write {head} into {note}"
        )
    if noted_head is None and mark == UsageMark.IN_USE and not has_wal:
        return (
            "it lacks its -wal file, and with it what was written since the last start of the gateway that"
            " used it: the file was copied alone while a gateway ran, or the -wal file was removed. Copy a"
            " ledger with `eksgateway ledger backup FILE COPY`, and restore such a copy. To go on with the"
            f" {head.seq} events that are here, write {head} into {note}"
        )
    return ""
