"""Copies a ledger from an SQLite file into PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from eksgateway.ledger.copying import copy_rows, require_sound
from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.inspection import open_snapshot
from eksgateway.ledger.postgres.owner import begin_change, raw_connection
from eksgateway.ledger.postgres.revision import require_usable
from eksgateway.ledger.postgres.schema_connection import SchemaConnection
from eksgateway.ledger.sqlite.files import LedgerFile
from eksgateway.ledger.sqlite.read_only import require_file
from eksgateway.ledger.verify import VerifyReport, verify_snapshot
from eksgateway.settings import PostgresLocation


def import_file(path: Path, location: PostgresLocation) -> VerifyReport:
    """Copy a file, which no gateway uses, into an empty ledger. The copy is verified before it is committed.

    Raises LedgerError; then nothing is copied.
    """
    require_file(path)
    file = LedgerFile(path)
    try:
        with open_snapshot(path) as (source, missing), begin_change(location) as connection:
            if missing:
                raise LedgerError(f"{path}: {missing}")
            raw = raw_connection(connection)
            target = SchemaConnection(raw, location.schema)
            require_usable(raw, location)
            _require_empty(target, location)
            head = require_sound(verify_snapshot(source), path).head
            copy_rows(source, target)
            return require_sound(verify_snapshot(target, head), location)
    finally:
        file.release()


def _require_empty(target: SchemaConnection, location: PostgresLocation) -> None:
    for table in ("events", "cancellations", "decisions"):
        if target.execute(f"SELECT 1 FROM main.{table} LIMIT 1").fetchone() is not None:  # noqa: S608 - our own words
            raise LedgerError(
                f"{location}: the ledger has records already ({table}), and a copy needs an empty one:"
                " name another database or --schema, and run `eksgateway ledger migrate` there"
            )
