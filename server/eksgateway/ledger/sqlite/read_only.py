"""Opens a ledger's files for reading only: also while a gateway writes them, and on a read-only mount."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.sqlite.engine import open_engine
from eksgateway.ledger.sqlite.errors import error_name, explain
from eksgateway.ledger.sqlite.files import beside, require_content, wal_bytes

_TIMEOUT_S: Final = 5.0


@contextmanager
def open_files(path: Path) -> Iterator[Engine]:
    """Raises LedgerError, also for errors of SQLite in the block."""
    require_file(path)
    require_content(path, path)
    with ExitStack() as resources:
        try:
            engine = _open(path, resources)
            resources.callback(engine.dispose)
            yield engine
        except SQLAlchemyError as exc:
            raise LedgerError(f"{path}: {explain(exc)}") from exc


def require_file(path: Path) -> None:
    """Raises LedgerError."""
    if path.is_dir():
        raise LedgerError(f"{path}: this is a folder: name the ledger's file in it")
    if not path.is_file():
        raise LedgerError(f"{path}: there is no such file")


def _open(path: Path, resources: ExitStack) -> Engine:
    """SQLite reads a database in WAL mode through the -shm file, and creates that if it is missing. A
    read-only mount prevents this: then an empty -wal file is ignored, and with a filled one both are copied.
    """
    engine = open_engine(path, "inspect", timeout_s=_TIMEOUT_S)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
    except SQLAlchemyError as exc:
        engine.dispose()
        if not error_name(exc).startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
            raise
    else:
        return engine
    if wal_bytes(path) == 0:
        return open_engine(path, "inspect", timeout_s=_TIMEOUT_S, immutable=True)
    return open_engine(_copy(path, resources), "inspect", timeout_s=_TIMEOUT_S)


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
