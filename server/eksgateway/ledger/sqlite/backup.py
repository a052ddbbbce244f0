"""Copies a ledger into one file, also while a gateway writes it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from eksgateway.ledger.copying import copy_rows, require_sound
from eksgateway.ledger.database import LedgerError, LedgerLocation, Snapshot
from eksgateway.ledger.inspection import open_snapshot
from eksgateway.ledger.sqlite.completeness import UsageMark, write_mark
from eksgateway.ledger.sqlite.connecting import connect
from eksgateway.ledger.sqlite.create import create_ledger, sync_folder
from eksgateway.ledger.sqlite.errors import explain
from eksgateway.ledger.sqlite.files import beside
from eksgateway.ledger.sqlite.read_only import SnapshotConnection
from eksgateway.ledger.verify import VerifyReport, verify, verify_snapshot

_TIMEOUT_S: Final = 5.0
_SIBLINGS: Final = ("-wal", "-shm", "-journal")
_RESERVED: Final = (*_SIBLINGS, ".head", ".lock", ".new")


def back_up(location: LedgerLocation, copy: Path) -> VerifyReport:
    """Copy a ledger, of either database, to a new file, and verify the copy.

    The copy gets its name when it is complete and on the disk. After an error (LedgerError) nothing is
    left behind.
    """
    _require_free(location, copy)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{copy.name}.", suffix=".part", dir=copy.parent)
        os.close(descriptor)
    except OSError as exc:
        raise LedgerError(f"{copy}: cannot be written: {exc.strerror}") from exc
    part = Path(name)
    try:
        _copy(location, part, copy)
        report = require_sound(verify(part), location)
        _publish(part, copy)
    finally:
        for left in (part, *(part.with_name(part.name + suffix) for suffix in _SIBLINGS)):
            left.unlink(missing_ok=True)
    return report


def _require_free(location: LedgerLocation, copy: Path) -> None:
    reserved = [beside(location, suffix) for suffix in _RESERVED] if isinstance(location, Path) else []
    if Path(os.path.realpath(copy)) in reserved:
        raise LedgerError(f"{copy}: is a name that the ledger uses itself: choose another one")
    if copy.is_dir():
        raise LedgerError(f"{copy}: is a folder: name a new file in it")
    if not copy.parent.is_dir():
        raise LedgerError(f"{copy}: {copy.parent} is not a folder: create it, or name a file elsewhere")
    # SQLite would use a -wal or -journal file of that name as the copy's own.
    for each in (copy, *(copy.with_name(copy.name + suffix) for suffix in _SIBLINGS)):
        if os.path.lexists(each):
            raise LedgerError(f"{each}: is there already, and is not overwritten: name a new file")


def _copy(location: LedgerLocation, part: Path, copy: Path) -> None:
    with open_snapshot(location) as (source, missing):
        if missing:
            raise LedgerError(f"{location}: {missing}")
        with _copy_errors(copy):
            if isinstance(source, SnapshotConnection):
                with closing(sqlite3.connect(part, isolation_level=None)) as target:
                    source.backup(target)
            else:
                require_sound(verify_snapshot(source), location)
                _copy_rows(source, part)
            _mark(part)


def _copy_rows(source: Snapshot, part: Path) -> None:
    create_ledger(part)
    with closing(connect(part, "write", sqlite3.Connection, timeout_s=_TIMEOUT_S)) as target:
        target.execute("BEGIN")
        copy_rows(source, target)
        target.execute("COMMIT")


def _mark(part: Path) -> None:
    with closing(sqlite3.connect(part, isolation_level=None)) as connection:
        # Without WAL the copy is one file, and is readable on a read-only mount.
        connection.execute("PRAGMA journal_mode=DELETE").fetchall()
        write_mark(connection, UsageMark.BACKUP)


@contextmanager
def _copy_errors(copy: Path) -> Iterator[None]:
    """Raise SQLite's errors as LedgerError; those of another database are the source's."""
    try:
        yield
    except sqlite3.Error as exc:
        raise LedgerError(f"{copy}: the copy was not made: {explain(exc)}") from exc


def _publish(part: Path, copy: Path) -> None:
    try:
        with part.open("rb") as file:
            os.fsync(file.fileno())
        _rename_to_new(part, copy)
        sync_folder(copy.parent)
    except FileExistsError as exc:
        raise LedgerError(f"{copy}: is there already, and is not overwritten: name a new file") from exc
    except OSError as exc:
        raise LedgerError(f"{copy}: cannot be written: {exc.strerror}") from exc


def _rename_to_new(part: Path, copy: Path) -> None:
    try:
        os.link(part, copy)  # unlike a rename, it never overwrites
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(copy):
            raise FileExistsError from None
        part.rename(copy)
