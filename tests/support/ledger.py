"""A ledger whose faults the test decides: held commits, a full disk, another program's lock."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, event

from eksgateway.clock import Clock, SystemClock
from eksgateway.ledger.migrate import migrate
from eksgateway.ledger.sql import SqlLedger
from eksgateway.ledger.sqlite import LedgerFile, open_engine
from eksgateway.settings import LedgerSettings


async def until(holds: Callable[[], Any], *, deadline_s: float = 20) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(deadline_s):
        while not holds():  # noqa: ASYNC110 (what is waited for happens on other threads or in files)
            await asyncio.sleep(0.01)


@contextmanager
def locked(settings: LedgerSettings) -> Iterator[None]:
    """Another program holds the database's write lock."""
    other = sqlite3.connect(settings.path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


@dataclass
class Faults:
    """``release`` cleared: each COMMIT hangs (``held`` is set when one does). ``pages`` above zero:
    the disk is full when the database has that many; it holds for new connections.
    """

    release: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    pages: int = 0

    def __post_init__(self) -> None:
        self.release.set()

    def install(self, engine: Engine) -> None:
        @event.listens_for(engine, "commit")
        def hold(_: Any) -> None:
            if not self.release.is_set():
                self.held.set()
                self.release.wait(30)

        @event.listens_for(engine, "connect")
        def limit(connection: sqlite3.Connection, _: Any) -> None:
            if self.pages:
                connection.execute(f"PRAGMA max_page_count={self.pages}")


def faulty_ledger(settings: LedgerSettings, clock: Clock | None = None) -> tuple[SqlLedger, Faults]:
    """The real ledger on a real file, with faults that the test switches on."""
    file, faults = LedgerFile(settings.path), Faults()
    timeout_s = settings.commit_timeout_s
    write = open_engine(settings.path, "write", timeout_s=timeout_s, before=file.check)
    migrate(write, settings.path)
    write.dispose()
    faults.install(write)
    read = open_engine(settings.path, "read", timeout_s=timeout_s, connections=4)
    return SqlLedger(settings, clock or SystemClock(), file, write, read), faults
