"""The gateway's log events."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        values: dict[str, Any] = getattr(record, "values", {})
        self.events.append(values | {"event": record.getMessage(), "log_level": record.levelname.lower()})


@contextmanager
def capture_logs() -> Iterator[list[dict[str, Any]]]:
    """The gateway's log events from now on: their values, ``event`` and ``log_level``."""
    logger, kept = logging.getLogger("eksgateway"), _Kept()
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(kept)
    try:
        yield kept.events
    finally:
        logger.removeHandler(kept)
        logger.setLevel(before)
