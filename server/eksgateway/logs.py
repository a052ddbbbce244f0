"""Structured logs: one JSON object a line on standard error, whatever is in a value."""

from __future__ import annotations

import logging
import sys

import structlog


def configure() -> None:
    """Send structlog's events, and the standard library's records and warnings, to standard error as
    JSON lines.
    """
    logging.captureWarnings(True)
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    # json.dumps escapes every control character and every non-ASCII one: a value cannot break a line.
    render = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, render],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
