"""Prints the demo: headings, calls, answers, and a table that updates while a stream runs.

A pipe or a dumb terminal gets the same as plain lines, without control characters.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Final

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_INDENT: Final = "   "


@dataclass(frozen=True, slots=True)
class WatchRow:
    message: str
    update: str
    cancellation: str
    phase: str

    def __str__(self) -> str:
        return f"{self.message:<12}  {self.update:<10}  {self.cancellation:<10}  {self.phase}"


class DemoScreen:
    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal

    def paragraph(self, text: str, style: str = "") -> None:
        for line in textwrap.wrap(text, self._console.width - 1) or [""]:
            self._line(line, style)

    def heading(self, text: str) -> None:
        self._line("", "")
        self._line(text, "bold")

    def call(self, caller: str, method: str, arguments: str = "") -> None:
        self._indent(f"{caller}: {method} {arguments}".rstrip(), "cyan")

    def answer(self, text: str, *, good: bool = True) -> None:
        self._indent(text, "green" if good else "yellow")

    def detail(self, text: str) -> None:
        self._indent(text, "")

    def failure(self, text: str) -> None:
        self._indent(f"NOT AS EXPECTED: {text}", "bold red")

    @contextmanager
    def watch_rows(self) -> Iterator[Callable[[WatchRow], None]]:
        """A function that shows a row; in a terminal the elapsed time runs while none are added."""
        start = time.monotonic()
        if not self._live:
            yield lambda row: self.detail(f"{time.monotonic() - start:5.1f} s  {row}")
            return
        rows: list[tuple[float, WatchRow]] = []
        ended = False

        def render() -> Table:
            return _table(rows, None if ended else time.monotonic() - start)

        with Live(get_renderable=render, console=self._console, refresh_per_second=8):
            try:
                yield lambda row: rows.append((time.monotonic() - start, row))
            finally:
                ended = True

    def _indent(self, text: str, style: str) -> None:
        wrapper = textwrap.TextWrapper(self._console.width - 1, _INDENT, _INDENT, break_long_words=False)
        for line in wrapper.wrap(text):
            self._line(line, style)

    def _line(self, line: str, style: str) -> None:
        # Without rich's own wrapping, which pads lines with spaces and breaks long words.
        self._console.print(Text(line, style=style), soft_wrap=True)


def _table(rows: list[tuple[float, WatchRow]], elapsed: float | None) -> Table:
    """Until it ends, a last row shows the elapsed time."""
    table = Table("", "message", "update", "cancellation", "phase", box=box.SIMPLE_HEAD)
    for time_s, row in rows:
        table.add_row(f"{time_s:5.1f} s", *(Text(cell) for cell in astuple(row)))
    if elapsed is not None:
        table.add_row(f"{elapsed:5.1f} s", Text("...", style="dim"))
    return table
