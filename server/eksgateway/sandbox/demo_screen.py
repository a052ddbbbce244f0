"""How the demo looks: headings, calls, answers, and a table that updates while a stream runs.

In a pipe or a dumb terminal: the same as plain lines, without control characters.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from typing import Protocol

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_INDENT = "   "


@dataclass(frozen=True, slots=True)
class State:
    """A message of a watch, in words."""

    message: str
    update: str
    cancellation: str
    phase: str


class Feed(Protocol):
    """Where a stream's states are shown as they come."""

    def add(self, state: State) -> None: ...


class Screen:
    """Prints the demo, in colour where the terminal has any."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._moving = self._console.is_terminal and not self._console.is_dumb_terminal

    def say(self, text: str, style: str = "") -> None:
        for line in textwrap.wrap(text, self._console.width - 1) or [""]:
            self._line(line, style)

    def heading(self, text: str) -> None:
        self._line("", "")
        self._line(text, "bold")

    def call(self, who: str, method: str, about: str = "") -> None:
        self._indented(f"{who}: {method} {about}".rstrip(), "cyan")

    def answer(self, text: str, *, good: bool = True) -> None:
        self._indented(text, "green" if good else "yellow")

    def detail(self, text: str) -> None:
        self._indented(text, "")

    def wrong(self, text: str) -> None:
        self._indented(f"NOT AS IT SHOULD BE: {text}", "bold red")

    @contextmanager
    def watching(self) -> Iterator[Feed]:
        """Somewhere to put states; the elapsed time goes on while none come."""
        if not self._moving:
            yield _Lines(self.detail)
            return
        table = _MovingTable()
        with Live(get_renderable=table.render, console=self._console, refresh_per_second=8):
            yield table

    def _indented(self, text: str, style: str) -> None:
        room = self._console.width - 1
        wrapper = textwrap.TextWrapper(
            room, initial_indent=_INDENT, subsequent_indent=_INDENT, break_long_words=False
        )
        for line in wrapper.wrap(text):
            self._line(line, style)

    def _line(self, line: str, style: str) -> None:
        # Without wrapping of rich's own: it would fill lines up with spaces, and fold long words.
        self._console.print(Text(line, style=style), soft_wrap=True)


@dataclass(slots=True)
class _Lines:
    show: Callable[[str], None]
    start: float = field(default_factory=time.monotonic)

    def add(self, state: State) -> None:
        elapsed = time.monotonic() - self.start
        words = f"{state.message:<12}  {state.update:<10}  {state.cancellation:<10}  {state.phase}"
        self.show(f"{elapsed:5.1f} s  {words}")


@dataclass(slots=True)
class _MovingTable:
    start: float = field(default_factory=time.monotonic)
    states: list[tuple[float, State]] = field(default_factory=list)

    def add(self, state: State) -> None:
        self.states.append((time.monotonic() - self.start, state))

    def render(self) -> Table:
        """The states so far; the line below them moves."""
        table = Table("", "message", "update", "cancellation", "phase", box=box.SIMPLE_HEAD)
        for elapsed, state in self.states:
            table.add_row(f"{elapsed:5.1f} s", *(Text(cell) for cell in astuple(state)))
        ended = bool(self.states) and self.states[-1][1].message == "FINAL"
        if not ended:
            table.add_row(f"{time.monotonic() - self.start:5.1f} s", Text("...", style="dim"))
        return table
