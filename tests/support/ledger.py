"""A ledger with faults that a test sets: held commits, a full disk, another program's lock."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from eksgateway.clock import Clock, SystemClock
from eksgateway.ledger import queries
from eksgateway.ledger.database import LedgerLocation
from eksgateway.ledger.hash_chain import Event
from eksgateway.ledger.inspection import open_snapshot, read_denials, read_events
from eksgateway.ledger.protocol import HistoryFilter
from eksgateway.ledger.sql_ledger import SqlLedger
from eksgateway.ledger.sqlite.database import SqliteDatabase
from eksgateway.model import Cancellation, Denial
from eksgateway.settings import LedgerSettings
from support.records import intent
from support.waiting import wait_until

_TESTS = Path(__file__).parent.parent


def kill_after(acknowledged: int, path: Path) -> list[str]:
    """Kill a writing process after some acknowledgements; returns every id that it acknowledged."""
    child = subprocess.Popen(
        [sys.executable, str(_TESTS / "ledger" / "writing_process.py"), str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(_TESTS)},
    )
    with child:
        assert child.stdout is not None
        ids = [child.stdout.readline().strip() for _ in range(acknowledged)]
        child.kill()
        # Lines in the pipe were acknowledged as well; a last line may be torn.
        ids += [line.strip() for line in child.stdout if line.endswith("\n")]
    return ids


def file_of(settings: LedgerSettings) -> Path:
    """The file of a ledger in SQLite."""
    assert settings.path is not None
    return settings.path


@contextmanager
def hold_write_lock(settings: LedgerSettings) -> Iterator[None]:
    """Hold the database's write lock, as another program."""
    other = sqlite3.connect(file_of(settings), isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
    finally:
        other.close()


@dataclass
class Faults:
    """The faults of a ledger.

    While ``release`` is cleared, each COMMIT hangs and sets ``held``. ``pages`` above 0 is the size at
    which the disk is full. Each transaction takes ``slow_s`` to begin; ``begun`` counts them.
    """

    release: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    pages: int = 0
    slow_s: float = 0
    begun: int = 0

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
            connection.execute("PRAGMA foreign_keys=ON")  # there are none until a test makes one

        @event.listens_for(engine, "begin")
        def wait(_: Any) -> None:
            self.begun += self.slow_s > 0
            time.sleep(self.slow_s)


def faulty_ledger(settings: LedgerSettings, clock: Clock | None = None) -> tuple[SqlLedger, Faults]:
    """The real ledger on a real file, with faults that the test switches on."""
    faults = Faults()
    clock = clock or SystemClock()
    database = SqliteDatabase(settings, clock)
    database.write_engine.dispose()
    faults.install(database.write_engine)
    return SqlLedger(settings, clock, database), faults


async def run_in_one_batch(faults: Faults, ledger: SqlLedger, *calls: Any) -> list[Any]:
    """The results and errors of calls that wait for the writer together, behind a commit that hangs."""
    faults.release.clear()
    first = asyncio.create_task(ledger.commit_intent(intent("first")))
    await wait_until(faults.held.is_set)
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    faults.release.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


def list_events(path: LedgerLocation, cancellation_id: str = "") -> list[Event]:
    """The events of one cancellation or of all, oldest first."""
    return [each for each in read_events(path) if cancellation_id in ("", each.cancellation_id)]


def list_denials(path: LedgerLocation) -> list[Denial]:
    """Denied cancels, newest first."""
    return list(read_denials(path))[::-1]


def read_cancellations(path: LedgerLocation) -> tuple[Cancellation, ...]:
    """Cancellations, newest first."""
    with open_snapshot(path) as (connection, _):
        return queries.read_page(connection, HistoryFilter(), 100, "").cancellations


def tamper(path: Path, *statements: str) -> None:
    """Change a closed ledger, as an intruder with access to the file could."""
    with closing(sqlite3.connect(path)) as other, other:
        for verb in ("update", "delete"):
            other.execute(f"DROP TRIGGER events_refuse_{verb}")
        for statement in statements:
            other.execute(statement)
