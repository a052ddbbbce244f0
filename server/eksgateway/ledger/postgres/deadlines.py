"""Ends waits for PostgreSQL that last too long, by shutting their sockets.

On a silent network nothing else does: PostgreSQL's timeouts are the server's, TCP's count lost packets only,
and a thread cannot be interrupted.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psycopg

from eksgateway.ledger.database import StorageError
from eksgateway.logs import Log

log = Log(__name__)

_INTERVAL_S: Final = 0.1  # a wake-up for each wait would cost more than the wait is watched for


class Deadlines:
    """Watches the waits of one database's threads, each for at most ``limit_s``."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._waits: dict[socket.socket, float] = {}  # when each ends
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="ledger-deadlines", daemon=True).start()

    @contextmanager
    def watch(self, connection: psycopg.Connection) -> Iterator[None]:
        """Raises StorageError if the block raises after its deadline. The connection is then unusable."""
        try:
            wire = _share_socket(connection)
        except OSError as exc:  # no free descriptor
            log.warning("ledger.wait_without_deadline", reason=str(exc))
            yield
            return
        with wire:
            with self._lock:
                self._waits[wire] = time.monotonic() + self._limit_s
            try:
                yield
            except Exception as exc:
                if wire not in self._waits:
                    raise StorageError(f"PostgreSQL did not answer within {self._limit_s:g} s") from exc
                raise
            finally:
                with self._lock:
                    self._waits.pop(wire, None)

    def close(self) -> None:
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(_INTERVAL_S):
            with self._lock:
                now = time.monotonic()
                late = [wire for wire, end in self._waits.items() if end <= now]
                for wire in late:
                    del self._waits[wire]
                    with suppress(OSError):  # the server has ended it
                        wire.shutdown(socket.SHUT_RDWR)


def _share_socket(connection: psycopg.Connection) -> socket.socket:
    """A descriptor of its own: libpq may close its one meanwhile, and another file get the number.

    Raises OSError if the process has no free descriptor, and psycopg.Error if the connection has ended.
    """
    return socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)
