"""Starts: the files that they create, and the ledgers that they refuse."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from eksgateway.clock import SystemClock
from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.inspection import open_snapshot
from eksgateway.ledger.migrate import REVISION
from eksgateway.ledger.sql_ledger import SqlLedger, open_ledger
from eksgateway.ledger.sqlite.backup import back_up
from eksgateway.ledger.sqlite.database import SqliteDatabase
from eksgateway.ledger.verify import verify
from eksgateway.settings import LedgerSettings
from support.ledger import file_of, list_events
from support.processes import list_names
from support.records import intent


@pytest.fixture
def settings(sqlite_settings: LedgerSettings) -> LedgerSettings:
    return sqlite_settings


def folder_missing(path: Path) -> Path:
    return path / "missing" / "ledger.db"


def folder_is_a_file(path: Path) -> Path:
    (path / "file").touch()
    return path / "file" / "ledger.db"


def path_is_a_folder(path: Path) -> Path:
    (path / "ledger.db").mkdir()
    return path / "ledger.db"


def device(_: Path) -> Path:
    return Path("/dev/null")


def lock_cannot_be_made(path: Path) -> Path:
    (path / "ledger.db.lock").mkdir()
    return path / "ledger.db"


def text(path: Path) -> Path:
    (path / "ledger.db").write_text("grants:\n" * 1000)
    return path / "ledger.db"


def damage_header(path: Path) -> Path:
    (path / "ledger.db").write_bytes(b"SQLite format 3\0" + b"\0" * 4096)
    return path / "ledger.db"


def of_another_program(path: Path) -> Path:
    other = sqlite3.connect(path / "ledger.db")
    other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    return path / "ledger.db"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        pytest.param(folder_missing, "is not a folder: create it", id="folder missing"),
        pytest.param(folder_is_a_file, "is not a folder: create it", id="folder is a file"),
        pytest.param(path_is_a_folder, "Is a directory", id="path is a folder"),
        pytest.param(device, "is not an ordinary file", id="path is a device"),
        pytest.param(lock_cannot_be_made, "the ledger's lock cannot be taken", id="lock cannot be made"),
        pytest.param(text, "this is not a ledger: set `ledger.path`", id="not a database"),
        pytest.param(damage_header, "ledger.db: .+", id="a damaged header"),
        pytest.param(of_another_program, "this database is not a ledger", id="a database of another program"),
    ],
)
async def test_open_ledger_refuses_an_unusable_path(
    tmp_path: Path, make: Callable[[Path], Path], error: str
) -> None:
    """Each error names the file, the fault and the remedy."""
    path = make(tmp_path)
    with pytest.raises(LedgerError, match=error) as raised:
        await open_ledger(LedgerSettings(path=path), SystemClock())
    assert str(path) in str(raised.value)


NEWER = r"written by a newer version \(schema 9999, and this version knows up to 0002\): use that version"
NO_REVISION = "the table alembic_version does not hold the one row that names the schema's revision"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param("UPDATE alembic_version SET version_num = '9999'", NEWER, id="newer"),
        pytest.param(
            "UPDATE alembic_version SET version_num = '9999'; ALTER TABLE events RENAME TO happenings",
            NEWER,
            id="newer, without a table",
        ),
        pytest.param(
            "UPDATE alembic_version SET version_num = '0000'", "does not know the schema '0000'", id="unknown"
        ),
        pytest.param(
            "UPDATE alembic_version SET version_num = 'ae1027a6acf'",
            "does not know the schema 'ae1027a6acf'",
            id="of another program",
        ),
        pytest.param("DELETE FROM alembic_version", NO_REVISION, id="row missing"),
        pytest.param("INSERT INTO alembic_version VALUES ('0001')", NO_REVISION, id="two rows"),
        pytest.param("UPDATE alembic_version SET version_num = ''", NO_REVISION, id="row empty"),
        pytest.param("DROP TABLE alembic_version", NO_REVISION, id="table missing"),
        pytest.param("DROP TABLE events", "its events were removed", id="events missing"),
    ],
)
async def test_a_ledger_of_another_schema_is_refused(
    ledger: SqlLedger, settings: LedgerSettings, tmp_path: Path, change: str, error: str
) -> None:
    """A start, `verify`, `list` and `backup` report the schema, and change nothing."""
    await ledger.close()
    with sqlite3.connect(file_of(settings)) as other:
        other.executescript(change)
    other.close()
    with pytest.raises(LedgerError, match=error):
        await open_ledger(settings, SystemClock())
    for read in (verify, list_events, lambda path: back_up(path, tmp_path / "copy.db")):
        with pytest.raises(LedgerError, match=error) as refused:
            read(file_of(settings))
        assert str(file_of(settings)) in str(refused.value)
    assert not [name for name in list_names(tmp_path) if "copy.db" in name]


async def test_a_ledger_of_version_0_1_0_is_read_as_it_is_and_migrated_by_a_start(
    ledger: SqlLedger, settings: LedgerSettings, tmp_path: Path
) -> None:
    """Backups of that version stay readable."""
    await ledger.commit_intent(intent())
    await ledger.close()
    with sqlite3.connect(file_of(settings)) as other:
        other.executescript(
            "ALTER TABLE cancellations DROP COLUMN replica;"
            " ALTER TABLE cancellations DROP COLUMN forward_before;"
            " UPDATE alembic_version SET version_num = '0001'"
        )
    other.close()
    before = file_of(settings).read_bytes()
    report = verify(file_of(settings))
    assert back_up(file_of(settings), tmp_path / "copy.db") == report == verify(tmp_path / "copy.db")
    assert file_of(settings).read_bytes() == before
    again = await open_ledger(settings, SystemClock())
    assert await again.get("cancellation-1") is not None
    await again.commit_intent(intent("2"))
    await again.close()
    assert verify(file_of(settings), report.head).broken is None


async def test_a_second_gateway_is_refused(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """The first one goes on."""
    with pytest.raises(LedgerError, match="another gateway process uses this ledger") as raised:
        await open_ledger(settings, SystemClock())
    assert str(file_of(settings)) in str(raised.value)
    await ledger.commit_intent(intent())


async def test_start_on_a_locked_database_fails_within_the_deadline(tmp_path: Path) -> None:
    settings = LedgerSettings(path=tmp_path / "ledger.db", commit_timeout_s=1)
    await (await open_ledger(settings, SystemClock())).close()
    other = sqlite3.connect(file_of(settings), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match=re.escape(str(file_of(settings)))):
        await open_ledger(settings, SystemClock())
    other.close()
    await (await open_ledger(settings, SystemClock())).close()


async def test_files_are_readable_by_their_owner_only(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """Their mode is 0600."""
    await ledger.commit_intent(intent())
    modes = {each.name: each.stat().st_mode & 0o777 for each in file_of(settings).parent.iterdir()}
    assert modes.keys() >= {"ledger.db", "ledger.db-wal", "ledger.db.lock"}
    assert set(modes.values()) == {0o600}


async def test_the_writer_syncs_every_commit(ledger: SqlLedger) -> None:
    """With synchronous=NORMAL a power cut could lose the last commits."""
    database = ledger._database  # noqa: SLF001 (a pragma shows on its own connection only)
    assert isinstance(database, SqliteDatabase)
    connection = database.writer.connect()
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_events_cannot_be_changed_or_deleted(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """The database refuses accidental changes."""
    await ledger.commit_intent(intent())
    other = sqlite3.connect(file_of(settings))
    for statement in ("UPDATE events SET time = ''", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError, match="only ever appended"):
            other.execute(statement)
    other.close()


def test_the_revision_is_alembics_head() -> None:
    """A start compares the ledger with the constant, without alembic."""
    config = Config()
    config.set_main_option("script_location", "eksgateway.ledger:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


@pytest.mark.usefixtures("ledger")
async def test_cancellations_that_are_not_settled_have_an_index(settings: LedgerSettings) -> None:
    """SQLite uses it for this exact condition only."""
    with open_snapshot(file_of(settings)) as (snapshot, _):
        plan = "EXPLAIN QUERY PLAN SELECT record FROM cancellations WHERE pending = 1 ORDER BY created"
        assert "ix_cancellations_pending" in str(snapshot.execute(plan).fetchall())


LATER_START = """
import asyncio, pathlib, sys
from eksgateway.clock import SystemClock
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.ledger.verify import verify
from eksgateway.settings import LedgerSettings
async def start():
    await (await open_ledger(LedgerSettings(path=pathlib.Path(sys.argv[1])), SystemClock())).close()
asyncio.run(start())
assert not {"alembic", "psycopg", "sqlalchemy"} & sys.modules.keys()
"""


async def test_a_later_start_loads_neither_alembic_nor_sqlalchemy(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """There is nothing to migrate."""
    await ledger.close()
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", LATER_START, str(file_of(settings)))
    assert await asyncio.wait_for(child.wait(), 60) == 0
