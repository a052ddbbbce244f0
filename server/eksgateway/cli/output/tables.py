"""Lays out tables and lists of fields as lines of text, for any width."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from eksgateway.client.error_report import printable

_GAP: Final = "  "


@dataclass(frozen=True, slots=True)
class Table:
    """The columns in the order of their importance, and one text for each in every row."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Fields:
    """One thing. Fields without a text are left out."""

    items: Sequence[tuple[str, str]]


def table_lines(table: Table, width: int | None) -> Iterator[str]:
    """A header and a line for each row.

    Columns that do not fit into ``width`` go below their row, as "NAME text".
    """
    rows = [tuple(map(printable, row)) for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.columns, *rows, strict=True)]
    shown = _count_fitting(widths, width)
    yield _join(table.columns[:shown], widths)
    for row in rows:
        yield _join(row[:shown], widths)
        below = zip(table.columns[shown:], row[shown:], strict=True)
        yield from _lines_below([f"{name.lower()} {text}" for name, text in below if text], width or 0)


def field_lines(fields: Fields, width: int | None) -> Iterator[str]:
    items = [(name, printable(text)) for name, text in fields.items if text]
    indent = max((len(name) for name, _ in items), default=0) + len(_GAP)
    for name, text in items:
        if width is None:
            yield f"{name:<{indent}}{text}"
        else:
            start = f"{name:<{indent}}"
            wrapper = textwrap.TextWrapper(
                max(width, indent + 20),
                initial_indent=start,
                subsequent_indent=" " * indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
            yield from wrapper.wrap(text)


def _count_fitting(widths: Sequence[int], width: int | None) -> int:
    if width is None:
        return len(widths)
    counts = (n for n in range(len(widths), 1, -1) if sum(widths[:n]) + len(_GAP) * (n - 1) <= width)
    return next(counts, 1)


def _join(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=False))
    return _GAP.join(padded).rstrip()


def _lines_below(texts: Sequence[str], width: int) -> Iterator[str]:
    """As many on a line as fit."""
    line = ""
    for text in texts:
        joined = f"{line}{_GAP if line else '    '}{text}"
        if line and len(joined) > width:
            yield line
            joined = f"    {text}"
        line = joined
    if line:
        yield line
