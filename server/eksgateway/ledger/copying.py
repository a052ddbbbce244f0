"""Copies a ledger's rows from one database into another one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, Final

from eksgateway.ledger.database import Connection, LedgerError, LedgerLocation, Snapshot
from eksgateway.ledger.hash_chain import Event
from eksgateway.ledger.queries import COLUMNS, DENIAL_COLUMNS, insert, to_row
from eksgateway.ledger.verify import VerifyReport
from eksgateway.ledger.verify_projection import fold_all

_ROWS: Final = 1000  # in memory at a time


def copy_rows(source: Snapshot, target: Connection) -> None:
    """Copy events and denials as they are, and fold the cancellations anew.

    ``source`` is a snapshot of a sound ledger, ``target`` an empty one in a transaction.
    """
    _add(target, "events", Event.__slots__, _read(source, "events", Event.__slots__))
    _add(target, "cancellations", COLUMNS, map(to_row, fold_all(source)))
    _add(target, "decisions", DENIAL_COLUMNS, _read(source, "decisions", DENIAL_COLUMNS))


def require_sound(report: VerifyReport, location: LedgerLocation) -> VerifyReport:
    """Raises LedgerError."""
    if report.broken is not None:
        raise LedgerError(
            f"{location}: is broken at event {report.broken.seq} ({report.broken.what}), so no copy was made:"
            " see `eksgateway ledger verify`"
        )
    return report


def _read(source: Snapshot, table: str, columns: Collection[str]) -> Iterator[dict[str, Any]]:
    """By their number, which is the first column."""
    statement = f"SELECT {', '.join(columns)} FROM main.{table} ORDER BY 1"  # noqa: S608 - our own words
    with source.stream(statement) as rows:
        for row in rows:
            yield dict(zip(columns, row, strict=True))


def _add(target: Connection, table: str, columns: Collection[str], rows: Iterable[dict[str, Any]]) -> None:
    rows = iter(rows)
    while page := list(islice(rows, _ROWS)):
        target.executemany(insert(table, columns), page)
