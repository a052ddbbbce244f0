"""Structured logs on standard error: one JSON object per line, whatever the values contain."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import sys
import time
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final

MAX_QUEUED_LINES: Final = 5_000  # some 2 MB
_PACKAGE: Final = "eksgateway"
_FLUSH_S: Final = 2.0
_BATCH_S: Final = 0.005  # between writes: waking the thread for each line takes 60 µs of a denied call's 550
_WRITE_BYTES: Final = select.PIPE_BUF  # at most, or lines of processes with one pipe could mix
# Escapes control and non-ASCII characters, so that no value breaks a line.
_encode = json.JSONEncoder(default=repr, allow_nan=False).encode


class Log:
    """Logs events: a name (``area.thing``) and values. ``exc_info`` is an exception."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **values: Any) -> None:
        self._log(logging.INFO, event, values)

    def warning(self, event: str, **values: Any) -> None:
        self._log(logging.WARNING, event, values)

    def error(self, event: str, **values: Any) -> None:
        self._log(logging.ERROR, event, values)

    def exception(self, event: str, **values: Any) -> None:
        """Log an error with the exception that is being handled."""
        self._log(logging.ERROR, event, values | {"exc_info": sys.exception()})

    def _log(self, level: int, event: str, values: dict[str, Any]) -> None:
        exc = values.pop("exc_info", None)
        if not self._logger.isEnabledFor(level):
            return
        if _handler is None:  # others' handlers, pytest's for example, need a whole LogRecord
            self._logger.log(level, event, exc_info=exc, extra={"values": values})
        else:  # without ``Logger.handle``, 9 instead of 14 µs
            _handler.handle(_Event(self._logger.name, level, event, values, exc))


class _Event(logging.LogRecord):
    """Has only what _JsonLines reads. LogRecord would also look up the process and the thread."""

    def __init__(  # its own would set the rest
        self, name: str, level: int, event: str, values: dict[str, Any], exc: BaseException | None = None
    ) -> None:
        self.name, self.levelname, self.msg, self.args = name, logging.getLevelName(level), event, None
        self.created = time.time()
        self.exc_info = (type(exc), exc, exc.__traceback__) if exc else None
        self.values = values


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        timestamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")[:-6] + "Z"
        common = {"level": record.levelname.lower(), "timestamp": timestamp}
        try:
            line = getattr(record, "values", {}) | {"event": record.getMessage()} | common
            if record.exc_info:
                line["exception"] = self.formatException(record.exc_info)
            return _encode(line)
        except Exception as exc:  # noqa: BLE001  logging would print it, in several lines of no JSON
            line = {"logger": record.name, "template": repr(record.msg), "fault": type(exc).__name__}
            return _encode(line | {"event": "log.not_encodable"} | common)


class _ThreadHandler(logging.Handler):
    """Queues lines for a daemon thread: a pipe's stalled reader must stall neither the loop nor the exit."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._dropped = 0
        self._thread = Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._lines.qsize() >= MAX_QUEUED_LINES:
            self._dropped += 1
            return
        self._log_dropped()
        self._lines.put(self.format(record))

    def close(self) -> None:
        """Wait up to ``_FLUSH_S`` for the queued lines to be written."""
        self._log_dropped()
        self._lines.put(None)
        self._thread.join(_FLUSH_S)
        super().close()

    def _log_dropped(self) -> None:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            event = _Event(_PACKAGE, logging.ERROR, "log.lines_lost", {"lines": dropped})
            self._lines.put(self.format(event))

    def _write(self) -> None:
        lines = bytearray()
        while True:
            try:
                line = self._lines.get_nowait()
            except Empty:
                self._flush(lines)
                line = self._lines.get()
                time.sleep(_BATCH_S)
            if line is None:
                self._flush(lines)
                return
            encoded = line.encode("ascii") + b"\n"
            if len(lines) + len(encoded) > _WRITE_BYTES:
                self._flush(lines)
            lines += encoded

    def _flush(self, lines: bytearray) -> None:
        # A lost line must not fail a call: the reader may be gone, or the disk full.
        with contextlib.suppress(OSError):
            _write_all(self._descriptor, bytes(lines))
        lines.clear()


def _write_all(descriptor: int, lines: bytes) -> None:
    """Also to a pipe that its reader has made non-blocking."""
    while lines:
        try:
            lines = lines[os.write(descriptor, lines) :]
        except BlockingIOError:
            select.select([], [descriptor], [])


_handler: _ThreadHandler | None = None  # before ``configure`` events are ordinary records


def configure() -> None:
    """Send events, and other packages' records and warnings, to standard error as JSON lines.

    Call this before grpc is imported: without ``GRPC_VERBOSITY`` any client can make gRPC's core write
    lines that are no JSON.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.captureWarnings(True)
    global _handler  # noqa: PLW0603  one for the process, as standard error is
    _handler = _ThreadHandler(sys.stderr.fileno())
    _handler.setFormatter(_JsonLines())
    logging.basicConfig(handlers=[_handler], level=logging.WARNING, force=True)
    logging.getLogger(_PACKAGE).setLevel(logging.INFO)
    # It also logs the errors that it raises, in sentences with the addresses of objects.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    # Drop grpc's records of metadata that is not UTF-8, which hold tokens and any client's bytes.
    grpc_log = logging.getLogger("grpc._cython.cygrpc")
    grpc_log.addFilter(lambda record: record.msg != "Invalid encoding on %s")
