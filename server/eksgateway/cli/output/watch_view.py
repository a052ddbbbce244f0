"""Shows a watch: a live table in a terminal, a line for each state in a pipe, or the API's messages."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from eksgateway.cli.notes import note
from eksgateway.cli.output.ages import age_text
from eksgateway.cli.output.printer import print_message
from eksgateway.cli.output.terminal import STYLES, console, is_terminal, print_lines
from eksgateway.cli.shared_options import Format
from eksgateway.client import Knowledge
from eksgateway.client.error_report import phase_name, printable
from eksgateway.v1.update_service_pb2 import CancelUpdateAndWatchResponse

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

Show: TypeAlias = Callable[[Knowledge], None]


@contextmanager
def watch_view(form: Format, title: str, update_id: str, *, wrapped: bool = False) -> Iterator[Show]:
    """A function that shows what is known. It may be called again with the same state and another age.

    ``wrapped``: JSON and YAML are the messages of CancelUpdateAndWatch.
    """
    if form is Format.TABLE and is_terminal():
        with _live_table(title) as show:
            yield show
        return
    shown: tuple[int, bool] | None = None

    def show_changes(known: Knowledge) -> None:
        nonlocal shown
        if (known.sequence, known.stale) == shown:
            return
        is_new = shown is None or known.sequence != shown[0]
        shown = known.sequence, known.stale
        if form is Format.TABLE:
            print_lines([_line(known)])
        elif not known.sequence:
            note("no state yet")
        elif is_new and form is Format.NAME:
            print_lines([update_id])
        elif is_new:
            message = known.message
            print_message(form, CancelUpdateAndWatchResponse(watch=message) if wrapped else message)
        elif known.stale:
            note(_stale_text(known.age_s))

    yield show_changes


def _line(known: Knowledge) -> str:
    now = f"{datetime.now():%H:%M:%S}"  # noqa: DTZ005  local, for people
    if not known.sequence:
        return f"{now}    0  no state yet"
    status, cancellation, phase = _cells(known)
    state = f"{status:<12}  {cancellation:<10}  {phase:<12}".rstrip()
    return f"{now}  {known.sequence:>3}  {state}" + (f"  ({_stale_text(known.age_s)})" if known.stale else "")


def _cells(known: Knowledge) -> tuple[str, str, str]:
    phase = phase_name(known.phase).replace("UNSPECIFIED", "")
    return known.update.status, known.update.cancellation.status, phase


def _stale_text(age_s: float) -> str:
    return f"EKS was last seen {age_s:.0f} s ago"


@contextmanager
def _live_table(title: str) -> Iterator[Show]:
    from rich.live import Live  # noqa: PLC0415  slow to import

    table = _LiveTable(title)
    with Live(
        get_renderable=table.render,
        console=console(),
        refresh_per_second=4,
        redirect_stderr=sys.stderr.isatty(),  # notes appear above the table
    ):
        yield table.show


class _LiveTable:
    def __init__(self, title: str) -> None:
        self._title = printable(title)
        self._start = time.monotonic()
        self._states: list[tuple[datetime, float, Knowledge]] = []  # with the time of each
        self._known = Knowledge()
        self._read_time = 0.0  # of EKS

    def show(self, known: Knowledge) -> None:
        now = time.monotonic()
        if known.sequence and (not self._states or _cells(known) != _cells(self._states[-1][2])):
            self._states.append((datetime.now(), now, known))  # noqa: DTZ005  local, for people
        self._known, self._read_time = known, now - known.age_s

    def render(self) -> Group:
        from rich.console import Group  # noqa: PLC0415  slow to import
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        now = time.monotonic()
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("SINCE", "FOR", "UPDATE", "CANCELLATION", "PHASE"):
            table.add_column(column, no_wrap=column == "FOR", min_width=4)
        starts = [start for _, start, _ in self._states]
        for (since, start, known), end in zip(self._states, [*starts[1:], now], strict=False):
            lasts = "" if self._known.final and end == now else age_text(end - start)
            cells = [Text(printable(cell), style=STYLES.get(cell, "")) for cell in _cells(known)]
            table.add_row(f"{since:%H:%M:%S}", lasts, *cells)
        return Group(Text(self._title), *([table] if self._states else []), self._footer(now))

    def _footer(self, now: float) -> Text:
        from rich.text import Text  # noqa: PLC0415  slow to import

        if not self._known.sequence:
            return Text(f"no state yet, after {age_text(now - self._start)}", style="dim")
        if self._known.final:
            return Text("ended", style="dim")
        age = f"EKS was read {age_text(now - self._read_time)} ago"
        if self._known.stale:
            return Text(f"STALE: {age}", style="bold red")
        return Text(
            f"{age}; watching for {age_text(now - self._start)}; Ctrl-C leaves it as it is", style="dim"
        )
