"""Copies a ledger from one database into another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Table, insert, select

from eksgateway.ledger.queries import to_row
from eksgateway.ledger.schema import cancellations, decisions, events
from eksgateway.ledger.verify import VerifyReport, fold_all, verify_snapshot

_ROWS: Final = 1000  # in memory at a time


def copy_ledger(source: Connection, target: Connection) -> VerifyReport:
    """Copy events byte for byte and denials, fold the cancellations anew, and verify the copy.

    ``source`` is a snapshot, ``target`` an empty ledger in a transaction. Copies nothing if the source is
    broken; the report is then the source's.
    """
    report = verify_snapshot(source)
    if report.broken is not None:
        return report
    _add(target, events, _read(source, events))
    _add(target, cancellations, map(to_row, fold_all(source)))
    _add(target, decisions, _read(source, decisions))
    return verify_snapshot(target, report.head)


def _read(source: Connection, table: Table) -> Iterator[dict[str, Any]]:
    rows = source.execution_options(yield_per=_ROWS).execute(select(table).order_by(*table.primary_key))
    return map(dict, rows.mappings())


def _add(target: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    rows = iter(rows)
    while page := list(islice(rows, _ROWS)):
        target.execute(insert(table), page)
