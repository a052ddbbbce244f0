"""Opens a ledger's files for reading only: also while a gateway writes them, and on a read-only mount."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.sqlite.connecting import connect, decode_any_text, keep_files_open
from eksgateway.ledger.sqlite.errors import error_name, explain
from eksgateway.ledger.sqlite.files import beside, require_content, wal_bytes

_TIMEOUT_S: Final = 5.0


class SnapshotConnection(sqlite3.Connection):
    """Implements ``database.Snapshot``."""

    @contextmanager
    def stream(self, statement: str, /) -> Iterator[Iterator[Any]]:
        self.text_factory = str  # saves 1.3 of 16 µs for an event of ``verify``
        try:
            yield self._read(statement)
        finally:
            self.text_factory = decode_any_text

    def _read(self, statement: str) -> Iterator[Any]:
        count = 0
        try:
            for row in self.execute(statement):
                count += 1
                yield row
        except sqlite3.OperationalError as exc:
            if not str(exc).startswith("Could not decode to UTF-8"):
                raise
            self.text_factory = decode_any_text  # for streams beside it, too
            yield from islice(self.execute(statement), count, None)


@contextmanager
def open_files(path: Path) -> Iterator[Callable[[], AbstractContextManager[SnapshotConnection]]]:
    """Yields a function that begins a snapshot.

    Raises LedgerError, also for errors of SQLite in the block.
    """
    require_file(path)
    require_content(path, path)
    with ExitStack() as resources:
        try:
            yield partial(_begin, resources.enter_context(closing(_open(path, resources))))
        except sqlite3.Error as exc:
            raise LedgerError(f"{path}: {explain(exc)}") from exc


@contextmanager
def _begin(connection: SnapshotConnection) -> Iterator[SnapshotConnection]:
    connection.execute("BEGIN")
    try:
        yield connection
    finally:
        connection.rollback()


def require_file(path: Path) -> None:
    """Raises LedgerError."""
    if path.is_dir():
        raise LedgerError(f"{path}: this is a folder: name the ledger's file in it")
    if not path.is_file():
        raise LedgerError(f"{path}: there is no such file")


def _open(path: Path, resources: ExitStack) -> SnapshotConnection:
    """SQLite reads a database in WAL mode through the -shm file, and creates that if it is missing. A
    read-only mount prevents this: then an empty -wal file is ignored, and with a filled one both are copied.
    """
    try:
        return _connect(path)
    except sqlite3.Error as exc:
        if not error_name(exc).startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
            raise
    if wal_bytes(path) == 0:
        return _connect(path, immutable=True)
    return _connect(_copy(path, resources))


def _connect(path: Path, *, immutable: bool = False) -> SnapshotConnection:
    connection = connect(path, "inspect", SnapshotConnection, timeout_s=_TIMEOUT_S, immutable=immutable)
    try:
        keep_files_open(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _copy(path: Path, resources: ExitStack) -> Path:
    try:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="eksgateway-ledger-")))
        copy = folder / "ledger.db"
        shutil.copyfile(path, copy)
        shutil.copyfile(beside(path, "-wal"), beside(copy, "-wal"))
    except OSError as exc:
        raise LedgerError(
            f"{path}: its folder cannot be written, and its -wal file has to be read, so a copy of both is"
            f" needed, which failed: {exc}: set TMPDIR to a folder with enough space"
        ) from exc
    return copy
