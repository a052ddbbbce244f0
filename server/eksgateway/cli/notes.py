"""Prints what is no result to standard error, without characters that a terminal would interpret."""

from __future__ import annotations

import logging
import sys

from eksgateway.client.error_report import printable


def note(text: str) -> None:
    """Print each line. A live table moves down."""
    for line in text.split("\n"):
        print(printable(line), file=sys.stderr, flush=True)


class _Notes(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        note(f"eksgateway: {record.getMessage()}")


def note_log_records() -> None:
    """Print the client's retries and their causes."""
    client = logging.getLogger("eksgateway.client")
    client.addHandler(_Notes())
    client.setLevel(logging.INFO)
    client.propagate = False
    # It logs a traceback for a message that does not parse.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
