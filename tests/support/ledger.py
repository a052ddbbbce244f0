"""Ledgers in either database, with faults that a test sets, and changes as an intruder makes them."""

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

import psycopg
import pytest

from eksgateway.clock import Clock, SystemClock
from eksgateway.ledger.database import Database, LedgerLocation
from eksgateway.ledger.hash_chain import Event
from eksgateway.ledger.history import read_page
from eksgateway.ledger.inspection import open_snapshot, read_denials, read_events
from eksgateway.ledger.postgres.chain_lock import chain_lock_key
from eksgateway.ledger.postgres.database import PostgresDatabase
from eksgateway.ledger.protocol import HistoryFilter
from eksgateway.ledger.sql_ledger import SqlLedger
from eksgateway.ledger.sqlite.database import SqliteDatabase
from eksgateway.ledger.unit_of_work import ReadKeys, UnitOfWork
from eksgateway.model import Cancellation, Denial
from eksgateway.settings import LedgerSettings, PostgresLocation
from support.postgres import superuser_url
from support.records import intent
from support.waiting import wait_until

# For tests of what only SQLite has.
ON_SQLITE = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)

_TESTS = Path(__file__).parent.parent


def kill_after(acknowledged: int, place: Path | str) -> list[str]:
    """Kill a process that writes to a file or URL; returns every id that it acknowledged."""
    child = subprocess.Popen(
        [sys.executable, str(_TESTS / "ledger" / "writing_process.py"), str(place)],
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
    if settings.url is not None:
        with psycopg.connect(settings.url) as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [chain_lock_key(settings.schema_name)])
            yield
        return
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
    which the disk is full, on SQLite. Each transaction takes ``slow_s`` to begin; ``begun`` counts them.
    On SQLite, the writer fails to read what has ``unreadable`` in its key, and ``statements`` are its own.
    """

    release: threading.Event = field(default_factory=threading.Event)
    held: threading.Event = field(default_factory=threading.Event)
    pages: int = 0
    slow_s: float = 0
    begun: int = 0
    unreadable: str = ""
    statements: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.release.set()

    def hold(self) -> None:
        if not self.release.is_set():
            self.held.set()
            self.release.wait(30)

    def begin(self) -> None:
        self.begun += 1
        time.sleep(self.slow_s)

    def connection_type(self) -> type[sqlite3.Connection]:
        """The writer's connections on SQLite."""
        faults = self

        class FaultyConnection(sqlite3.Connection):
            def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
                if statement == "BEGIN IMMEDIATE":
                    faults.begin()
                    if faults.pages:
                        super().execute(f"PRAGMA max_page_count={faults.pages}")
                    super().execute("PRAGMA foreign_keys=ON")  # there are none until a test makes one
                elif statement == "COMMIT":
                    faults.hold()
                elif faults.unreadable and faults.unreadable in str(parameters):
                    raise sqlite3.DatabaseError("disk image is malformed")
                faults.statements.append(statement)
                return super().execute(statement, *parameters)

            def executemany(self, statement: str, parameters: Any) -> sqlite3.Cursor:
                faults.statements.append(statement)
                return super().executemany(statement, parameters)

        return FaultyConnection


class FaultyPostgres(PostgresDatabase):
    """Its COMMITs hang after PostgreSQL's answer, because PostgreSQL ends transactions that hang."""

    def __init__(self, settings: LedgerSettings, faults: Faults) -> None:
        super().__init__(settings)
        self._faults = faults

    @contextmanager
    def begin_batch(self, keys: ReadKeys) -> Iterator[UnitOfWork]:
        self._faults.begin()
        with super().begin_batch(keys) as unit:
            yield unit
        self._faults.hold()


def open_database(settings: LedgerSettings) -> Database:
    return PostgresDatabase(settings) if settings.url else SqliteDatabase(settings, SystemClock())


def faulty_ledger(settings: LedgerSettings, clock: Clock | None = None) -> tuple[SqlLedger, Faults]:
    """The real ledger in a real database, with faults that the test switches on."""
    faults = Faults()
    clock = clock or SystemClock()
    if settings.url is not None:
        return SqlLedger(settings, clock, FaultyPostgres(settings, faults)), faults
    database = SqliteDatabase(settings, clock, faults.connection_type())
    faults.begun = 0
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
        return read_page(connection, HistoryFilter(), 100, "").cancellations


def tamper(location: LedgerLocation, *statements: str) -> None:
    """Change a ledger, as an intruder with all rights on the database could."""
    if isinstance(location, PostgresLocation):
        guard = "ALTER TABLE events {} TRIGGER events_refuse_changes"
        execute(location, guard.format("DISABLE"), *statements, guard.format("ENABLE ALWAYS"))
        return
    execute(location, *(f"DROP TRIGGER events_refuse_{verb}" for verb in ("update", "delete")), *statements)


def execute(location: LedgerLocation, *statements: str) -> list[tuple[Any, ...]]:
    """Execute statements in one transaction, with all rights; returns the rows of the last one."""
    if isinstance(location, PostgresLocation):
        with psycopg.connect(superuser_url(location.url)) as other:
            other.execute(f"SET LOCAL search_path = {location.schema}")
            cursors = [other.execute(statement.encode()) for statement in statements]
            return cursors[-1].fetchall() if cursors[-1].description else []
    with closing(sqlite3.connect(location)) as file, file:
        return [file.execute(statement) for statement in statements][-1].fetchall()


_REFUSING = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'refused'; END $$"


def refuse(
    location: LedgerLocation, table: str, part: str, undoes: str = "ABORT", verb: str = "INSERT"
) -> None:
    """Let the database refuse to insert or delete rows with this in their body, until ``admit``.

    SQLite undoes the statement (ABORT) or the whole transaction (ROLLBACK), as on an I/O error.
    """
    body = "NEW.body" if verb == "INSERT" else "OLD.body"
    trigger = f"CREATE TRIGGER refuse BEFORE {verb} ON {table} FOR EACH ROW WHEN ({body} LIKE '%{part}%')"
    if isinstance(location, PostgresLocation):
        execute(location, _REFUSING, f"{trigger} EXECUTE FUNCTION refuse()")
    else:
        execute(location, f"{trigger} BEGIN SELECT RAISE({undoes}, 'refused'); END")


def refuse_at_commit(location: LedgerLocation, part: str) -> None:
    """Let the database refuse to commit events with this in their body, until ``admit``."""
    if isinstance(location, PostgresLocation):
        execute(
            location,
            _REFUSING,
            "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED"
            f" FOR EACH ROW WHEN (NEW.body LIKE '%{part}%') EXECUTE FUNCTION refuse()",
        )
        return
    execute(
        location,
        "CREATE TABLE parents (id TEXT PRIMARY KEY)",
        "CREATE TABLE children (id TEXT REFERENCES parents DEFERRABLE INITIALLY DEFERRED)",
        f"CREATE TRIGGER refuse AFTER INSERT ON events WHEN NEW.body LIKE '%{part}%'"
        " BEGIN INSERT INTO children VALUES (NEW.cancellation_id); END",
    )


def admit(location: LedgerLocation) -> None:
    postgres = isinstance(location, PostgresLocation)
    execute(location, "DROP FUNCTION refuse CASCADE" if postgres else "DROP TRIGGER refuse")
