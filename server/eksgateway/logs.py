"""Structured logs: one JSON object a line on standard error, whatever is in a value."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any, TextIO

import structlog


class _Unfailing:
    """A stream whose writes never raise: a call must not end otherwise because its log line was lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # the reader is gone, the disk full, the file closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure() -> None:
    """Send structlog's events, and the standard library's records and warnings, to standard error as
    JSON lines.
    """
    logging.captureWarnings(True)
    stream: Any = _Unfailing(sys.stderr)
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    # json.dumps escapes every control character and every non-ASCII one: a value cannot break a line.
    render = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, render],
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
