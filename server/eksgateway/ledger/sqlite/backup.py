"""Copies a ledger into one file, also while a gateway writes it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.inspection import open_snapshot
from eksgateway.ledger.sqlite.completeness import UsageMark, write_mark
from eksgateway.ledger.sqlite.create import sync_folder
from eksgateway.ledger.sqlite.engine import raw_connection
from eksgateway.ledger.sqlite.errors import explain
from eksgateway.ledger.sqlite.files import beside
from eksgateway.ledger.verify import VerifyReport, verify

_SIBLINGS: Final = ("-wal", "-shm", "-journal")
_RESERVED: Final = (*_SIBLINGS, ".head", ".lock", ".new")


def back_up(path: Path, copy: Path) -> VerifyReport:
    """Copy a ledger to a new file, and verify the copy.

    The copy gets its name when it is complete and on the disk. After an error (LedgerError) nothing is
    left behind.
    """
    _require_free(path, copy)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{copy.name}.", suffix=".part", dir=copy.parent)
        os.close(descriptor)
    except OSError as exc:
        raise LedgerError(f"{copy}: cannot be written: {exc.strerror}") from exc
    part = Path(name)
    try:
        _copy(path, part, copy)
        report = verify(part)
        if report.broken is not None:
            raise LedgerError(
                f"{path}: is broken at event {report.broken.seq} ({report.broken.what}), so no copy was made:"
                f" see `eksgateway ledger verify {path}`"
            )
        _publish(part, copy)
    finally:
        for left in (part, *(part.with_name(part.name + suffix) for suffix in _SIBLINGS)):
            left.unlink(missing_ok=True)
    return report


def _require_free(path: Path, copy: Path) -> None:
    if Path(os.path.realpath(copy)) in [beside(path, suffix) for suffix in _RESERVED]:
        raise LedgerError(f"{copy}: is a name that the ledger uses itself: choose another one")
    if copy.is_dir():
        raise LedgerError(f"{copy}: is a folder: name a new file in it")
    if not copy.parent.is_dir():
        raise LedgerError(f"{copy}: {copy.parent} is not a folder: create it, or name a file elsewhere")
    # SQLite would use a -wal or -journal file of that name as the copy's own.
    for each in (copy, *(copy.with_name(copy.name + suffix) for suffix in _SIBLINGS)):
        if os.path.lexists(each):
            raise LedgerError(f"{each}: is there already, and is not overwritten: name a new file")


def _copy(path: Path, part: Path, copy: Path) -> None:
    with open_snapshot(path) as (connection, missing):
        if missing:
            raise LedgerError(f"{path}: {missing}")
        try:
            with closing(sqlite3.connect(part, isolation_level=None)) as target:
                target.execute("PRAGMA temp_store=MEMORY")
                raw_connection(connection).backup(target)
                # Without WAL the copy is one file, and is readable on a read-only mount.
                target.execute("PRAGMA journal_mode=DELETE").fetchall()
                write_mark(target, UsageMark.BACKUP)
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
