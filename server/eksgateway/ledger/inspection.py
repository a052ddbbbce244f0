"""Opens a ledger for programs other than the gateway that writes it: also while one does, and where nothing
can be written.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from eksgateway.ledger.completeness import missing
from eksgateway.ledger.files import beside, read_head, require_content, wal_bytes
from eksgateway.ledger.migrate import require_current
from eksgateway.ledger.sqlite import LedgerError, error_name, explain, open_engine

_TIMEOUT_S = 5.0


@contextmanager
def open_read_only(path: Path) -> Iterator[Engine]:
    """An engine that reads a ledger of this version's schema. Raises LedgerError, also for what SQLite
    raises inside.
    """
    if not path.is_file():
        raise LedgerError(f"{path}: there is no such file")
    require_content(path, path)
    with ExitStack() as resources:
        try:
            engine = _open(path, resources)
            resources.callback(engine.dispose)
            with engine.begin() as connection:
                require_current(connection, path)
            yield engine
        except SQLAlchemyError as exc:
            raise LedgerError(f"{path}: {explain(exc)}") from exc


@contextmanager
def inspecting(path: Path) -> Iterator[Connection]:
    """A connection in one read-only snapshot. Raises as ``open_read_only``."""
    with open_read_only(path) as engine, engine.begin() as connection:
        yield connection


@contextmanager
def open_snapshot(path: Path) -> Iterator[tuple[Connection, str]]:
    """As ``inspecting``, and what the ledger lacks, as ``completeness.missing``."""
    known, had_wal = read_head(path), wal_bytes(path) > 0
    with inspecting(path) as connection:
        # A gateway that has started meanwhile has filled the -wal file before it marked the main one.
        yield connection, missing(connection, path, known, has_wal=had_wal or wal_bytes(path) > 0)


def _open(path: Path, resources: ExitStack) -> Engine:
    """An engine that reads a ledger, with its -wal file if there is one.

    SQLite reads a database in WAL mode through the -shm file, which it makes if it is missing. On a
    read-only mount it cannot: then an empty -wal file is ignored, and with a filled one both are copied.
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
    return open_engine(_copied(path, resources), "inspect", timeout_s=_TIMEOUT_S)


def _copied(path: Path, resources: ExitStack) -> Path:
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
