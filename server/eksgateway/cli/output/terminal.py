"""Standard output as a terminal with a width and styles, or as a pipe with plain lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from eksgateway.client.error_report import printable

if TYPE_CHECKING:
    from rich.console import Console

# Colors that can be read on dark and on light backgrounds, by the first words of statuses and phases.
STYLES = {
    "CANCELLED": "green",
    "Cancelled": "green",
    "Successful": "green",
    "yes": "green",
    "no": "red",
    "Failed": "red",
    "COMPLETED_ANYWAY": "red",
    "UPDATE_FAILED": "red",
    "CANCELLATION_FAILED": "red",
    "REJECTED": "red",
    "TOO_LATE": "red",
    "NOT_FORWARDED": "red",
}


def is_terminal() -> bool:
    """Whether standard output can be styled. A dumb terminal cannot."""
    return sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown", None, "")


def terminal_width() -> int | None:
    """None for a pipe, where lines are as long as they need."""
    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except OSError:
        return 80


def console() -> Console:
    """It obeys NO_COLOR."""
    from rich.console import Console  # noqa: PLC0415  slow to import

    return Console(highlight=False)


def print_lines(lines: Iterable[str], *, header: bool = False) -> None:
    """``header``: the first line is one."""
    if not is_terminal():
        for line in lines:
            print(printable(line), flush=True)
        return
    from rich.text import Text  # noqa: PLC0415  slow to import

    shown = console()
    for index, line in enumerate(lines):
        text = Text(printable(line), style="bold" if header and index == 0 else "")
        for word, style in STYLES.items():  # a whole cell
            text.highlight_regex(rf"(?:^|(?<=  )){word}(?=  |$|:)", style)
        shown.print(text, soft_wrap=True)
