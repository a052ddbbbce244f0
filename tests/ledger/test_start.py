"""What a start makes, takes up, and refuses, saying what is wrong and how to mend it."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from eksgateway.clock import SystemClock
from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.inspection import open_snapshot
from eksgateway.ledger.schema import REVISION, metadata
from eksgateway.ledger.sql_ledger import SqlLedger, open_ledger
from eksgateway.ledger.sqlite.backup import back_up
from eksgateway.ledger.verify import verify
from eksgateway.settings import LedgerSettings
from support.ledger import list_events
from support.processes import names_in
from support.records import intent


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


def truncated(path: Path) -> Path:
    (path / "ledger.db").write_bytes(b"SQLite format 3\0" + b"\0" * 4096)
    return path / "ledger.db"


def of_another_program(path: Path) -> Path:
    other = sqlite3.connect(path / "ledger.db")
    other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    return path / "ledger.db"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(folder_missing, "is not a folder: create it", id="folder missing"),
        pytest.param(folder_is_a_file, "is not a folder: create it", id="folder is a file"),
        pytest.param(path_is_a_folder, "Is a directory", id="path is a folder"),
        pytest.param(device, "is not an ordinary file", id="path is a device"),
        pytest.param(lock_cannot_be_made, "the ledger's lock cannot be taken", id="lock cannot be made"),
        pytest.param(text, "this is not a ledger: set `ledger.path`", id="not a database"),
        pytest.param(truncated, "ledger.db: .+", id="a damaged header"),
        pytest.param(of_another_program, "this database is not a ledger", id="a database of another program"),
    ],
)
async def test_refused(tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    """Each says the file, what is wrong, and what to do."""
    path = make(tmp_path)
    with pytest.raises(LedgerError, match=says) as told:
        await open_ledger(LedgerSettings(path=path), SystemClock())
    assert str(path) in str(told.value)


NEWER = r"written by a newer version \(schema 9999, and this version knows up to 0001\): use that version"
NO_REVISION = "the table alembic_version does not hold the one row that names the schema's revision"


@pytest.mark.parametrize(
    ("change", "says"),
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
        pytest.param("INSERT INTO alembic_version VALUES ('0002')", NO_REVISION, id="two rows"),
        pytest.param("UPDATE alembic_version SET version_num = ''", NO_REVISION, id="row empty"),
        pytest.param("DROP TABLE alembic_version", NO_REVISION, id="table missing"),
        pytest.param("DROP TABLE events", "its events were removed", id="events missing"),
    ],
)
async def test_another_schema(
    ledger: SqlLedger, settings: LedgerSettings, tmp_path: Path, change: str, says: str
) -> None:
    """A start, `verify`, `list` and `backup` all say what it is, and leave it alone."""
    await ledger.close()
    with sqlite3.connect(settings.path) as other:
        other.executescript(change)
    other.close()
    with pytest.raises(LedgerError, match=says):
        await open_ledger(settings, SystemClock())
    for read in (verify, list_events, lambda path: back_up(path, tmp_path / "copy.db")):
        with pytest.raises(LedgerError, match=says) as refused:
            read(settings.path)
        assert str(settings.path) in str(refused.value)
    assert not [name for name in names_in(tmp_path) if "copy.db" in name]


async def test_a_second_gateway(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """Two writers on one file: the second does not start, and the first goes on."""
    with pytest.raises(LedgerError, match="another gateway process uses this ledger") as told:
        await open_ledger(settings, SystemClock())
    assert str(settings.path) in str(told.value)
    await ledger.commit_intent(intent())


async def test_another_program_holds_it(tmp_path: Path) -> None:
    """A lock that does not go away fails the start, within the deadline."""
    settings = LedgerSettings(path=tmp_path / "ledger.db", commit_timeout_s=1)
    await (await open_ledger(settings, SystemClock())).close()
    other = sqlite3.connect(settings.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match=re.escape(str(settings.path))):
        await open_ledger(settings, SystemClock())
    other.close()
    await (await open_ledger(settings, SystemClock())).close()


async def test_files_are_the_owners_alone(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """Who may read the ledger reads who did what: the files are made with mode 0600."""
    await ledger.commit_intent(intent())
    modes = {each.name: each.stat().st_mode & 0o777 for each in settings.path.parent.iterdir()}
    assert modes.keys() >= {"ledger.db", "ledger.db-wal", "ledger.db.lock"}
    assert set(modes.values()) == {0o600}


async def test_commits_survive_a_power_cut(ledger: SqlLedger) -> None:
    """WAL with synchronous=FULL on the writer's own connection; NORMAL could lose the last commits."""
    with ledger._database.write_engine.connect() as connection:  # noqa: SLF001 (a pragma shows on its own connection only)
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


async def test_events_are_only_ever_appended(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """A change by accident is refused by the database."""
    await ledger.commit_intent(intent())
    other = sqlite3.connect(settings.path)
    for statement in ("UPDATE events SET time = ''", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError, match="only ever appended"):
            other.execute(statement)
    other.close()


def test_the_revision_is_alembics_head() -> None:
    """The constant that spares a start alembic is the newest migration."""
    config = Config()
    config.set_main_option("script_location", "eksgateway.ledger:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


@pytest.mark.usefixtures("ledger")
async def test_migrations_make_the_schema(settings: LedgerSettings) -> None:
    """What the migrations leave is what the tables in the code say."""
    with open_snapshot(settings.path) as (connection, _):
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        plan = "EXPLAIN QUERY PLAN SELECT record FROM cancellations WHERE pending = 1 ORDER BY created"
        assert "ix_cancellations_pending" in str(connection.exec_driver_sql(plan).all())


LATER_START = """
import asyncio, pathlib, sys
from eksgateway.clock import SystemClock
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.ledger.verify import verify
from eksgateway.settings import LedgerSettings
async def start():
    await (await open_ledger(LedgerSettings(path=pathlib.Path(sys.argv[1])), SystemClock())).close()
asyncio.run(start())
assert "alembic" not in sys.modules
"""


async def test_a_later_start_needs_no_alembic(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """With nothing to migrate, a start stays cheap."""
    await ledger.close()
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", LATER_START, str(settings.path))
    assert await asyncio.wait_for(child.wait(), 60) == 0
