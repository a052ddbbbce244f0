"""Copies a ledger's rows from one database into another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Table, insert, select

from eksgateway.ledger.database import LedgerError, LedgerLocation
from eksgateway.ledger.queries import to_row
from eksgateway.ledger.schema import cancellations, decisions, events
from eksgateway.ledger.verify import VerifyReport, fold_all

_ROWS: Final = 1000  # in memory at a time


def copy_rows(source: Connection, target: Connection) -> None:
    """Copy events and denials as they are, and fold the cancellations anew.

    ``source`` is a snapshot of a sound ledger, ``target`` an empty one in a transaction.
    """
    _add(target, events, _read(source, events))
    _add(target, cancellations, map(to_row, fold_all(source)))
    _add(target, decisions, _read(source, decisions))


def require_sound(report: VerifyReport, location: LedgerLocation) -> VerifyReport:
    """Raises LedgerError."""
    if report.broken is not None:
        raise LedgerError(
            f"{location}: is broken at event {report.broken.seq} ({report.broken.what}), so no copy was made:"
            " see `eksgateway ledger verify`"
        )
    return report


def _read(source: Connection, table: Table) -> Iterator[dict[str, Any]]:
    ordered = select(table).order_by(*table.primary_key)
    with source.execution_options(yield_per=_ROWS).execute(ordered) as rows:
        yield from map(dict, rows.mappings())


def _add(target: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    rows = iter(rows)
    while page := list(islice(rows, _ROWS)):
        target.execute(insert(table), page)
