"""Structured logs: one JSON object a line on standard error, whatever is in a value.

Events go through the standard library's logging, as what other packages log does.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import sys
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final

MOST_WAITING: Final = 5_000  # lines; some 2 MB
_OURS = "eksgateway"
_LAST_LINES_S = 2.0
# Escapes every control character and every non-ASCII one: a value cannot break a line.
_encode = json.JSONEncoder(default=repr, allow_nan=False).encode


class Log:
    """Tells events, each by a name (``area.thing``) and values; ``exc_info`` among these is an exception,
    told with its traceback. ``name`` is a module's, for who filters.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **values: Any) -> None:
        self._tell(logging.INFO, event, values)

    def warning(self, event: str, **values: Any) -> None:
        self._tell(logging.WARNING, event, values)

    def error(self, event: str, **values: Any) -> None:
        self._tell(logging.ERROR, event, values)

    def exception(self, event: str, **values: Any) -> None:
        """An error, with the exception that is being handled."""
        self._tell(logging.ERROR, event, values | {"exc_info": sys.exception()})

    def _tell(self, level: int, event: str, values: dict[str, Any]) -> None:
        exc = values.pop("exc_info", None)
        if self._logger.isEnabledFor(level):
            # Not ``log``, which goes up the stack to find a line of code that nobody is told.
            exc_info = (type(exc), exc, exc.__traceback__) if exc else None
            record = logging.LogRecord(self._logger.name, level, "", 0, event, None, exc_info)
            record.values = values
            self._logger.handle(record)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        try:
            line = getattr(record, "values", {}) | self._always(record, record.getMessage())
            if record.exc_info:
                line["exception"] = self.formatException(record.exc_info)
            return _encode(line)
        except Exception as exc:  # noqa: BLE001  logging would print it, over several lines that are no JSON
            untold = {"logger": record.name, "template": repr(record.msg), "fault": type(exc).__name__}
            return _encode(untold | self._always(record, "log.untold"))

    @staticmethod
    def _always(record: logging.LogRecord, event: str) -> dict[str, Any]:
        time = datetime.fromtimestamp(record.created, UTC).replace(tzinfo=None)
        return {
            "event": event,
            "level": record.levelname.lower(),
            "timestamp": time.isoformat(timespec="microseconds") + "Z",
        }


class _Waiting(logging.Handler):
    """Lines wait for a thread to write them: the reader of a pipe may stall, and the event loop must not.

    A daemon thread, so that a reader who never goes on does not keep the process from ending.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._lost = 0
        self._thread = Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._lines.qsize() >= MOST_WAITING:
            self._lost += 1
            return
        self._count_lost()
        self._lines.put(self.format(record))

    def close(self) -> None:
        """Wait a moment for what is left to be written."""
        self._count_lost()
        self._lines.put(None)
        self._thread.join(_LAST_LINES_S)
        super().close()

    def _count_lost(self) -> None:
        if self._lost:
            lost, self._lost = self._lost, 0
            loss = logging.LogRecord(_OURS, logging.ERROR, "", 0, "log.lines_lost", None, None)
            loss.values = {"lines": lost}
            self._lines.put(self.format(loss))

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            # A call must not end otherwise because its line is lost: the reader is gone, or the disk full.
            with contextlib.suppress(OSError):
                _write_all(self._descriptor, line.encode("ascii") + b"\n")


def _write_all(descriptor: int, line: bytes) -> None:
    """The whole line, also where the other end has made the pipe non-blocking for both."""
    while line:
        try:
            line = line[os.write(descriptor, line) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


def configure() -> None:
    """Send events, and other packages' records and warnings, to standard error as JSON lines.

    Call this before grpc is imported: unless ``GRPC_VERBOSITY`` is set, its core writes lines that are no
    JSON, and strangers can cause them.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.captureWarnings(True)
    handler = _Waiting(sys.stderr.fileno())
    handler.setFormatter(_JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger(_OURS).setLevel(logging.INFO)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_tells_no_metadata)


def _tells_no_metadata(record: logging.LogRecord) -> bool:
    """Drop what grpc logs of metadata that is not UTF-8: a token, or whatever a stranger sends, each time."""
    return record.msg != "Invalid encoding on %s"
