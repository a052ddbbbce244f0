"""One gateway at a time uses a ledger, and none creates a new one where events were lost."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eksgateway.clock import SystemClock
from eksgateway.errors import LedgerUnavailable
from eksgateway.ledger.database import LedgerError
from eksgateway.ledger.sql_ledger import SqlLedger, open_ledger
from eksgateway.ledger.sqlite.backup import back_up
from eksgateway.ledger.sqlite.completeness import UsageMark, write_mark
from eksgateway.ledger.sqlite.database import SqliteDatabase
from eksgateway.ledger.sqlite.files import LedgerFile
from eksgateway.ledger.verify import verify
from eksgateway.settings import LedgerSettings
from support.ledger import file_of, kill_after
from support.logs import capture_logs
from support.processes import list_names, run_program
from support.records import intent

READING = """
import sqlite3, sys
sqlite3.connect(sys.argv[1]).execute("SELECT * FROM events").fetchall()
"""


# Kills itself at the moment when a start begins to note the newest event.
KILLED_AT_THE_NOTE = """
import asyncio, os, signal, sys
from pathlib import Path
from typing import Any
from eksgateway.clock import SystemClock
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.settings import LedgerSettings

def kill(event, arguments):
    if event == "os.truncate":
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
asyncio.run(open_ledger(LedgerSettings(path=Path(sys.argv[1])), SystemClock()))
"""


@pytest.fixture
def settings(sqlite_settings: LedgerSettings) -> LedgerSettings:
    return sqlite_settings


async def start(path: Path) -> SqlLedger:
    return await open_ledger(LedgerSettings(path=path, commit_timeout_s=10), SystemClock())


async def with_intents(path: Path, *names: str) -> None:
    """Start a gateway's ledger, write intents, and end it."""
    ledger = await start(path)
    for name in names:
        await ledger.commit_intent(intent(name))
    await ledger.close()


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def remove(path: Path) -> None:
    path.unlink()


def remove_all_but_the_head(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", ".lock"):
        beside(path, suffix).unlink()


def remove_main_file_and_head(path: Path) -> None:
    path.unlink()
    beside(path, ".head").unlink()


def empty(path: Path) -> None:
    os.truncate(path, 0)


def empty_and_remove_the_rest(path: Path) -> None:
    remove_all_but_the_head(path)
    beside(path, ".head").unlink()
    path.touch()


def remove_wal(path: Path) -> None:
    beside(path, "-wal").unlink()


def remove_wal_and_head(path: Path) -> None:
    remove_wal(path)
    beside(path, ".head").unlink()


def empty_wal(path: Path) -> None:
    os.truncate(beside(path, "-wal"), 0)


def cut_wal(path: Path) -> None:
    wal = beside(path, "-wal")
    os.truncate(wal, wal.stat().st_size // 2)


def copy_main_file_of_an_early_gateway(path: Path) -> None:
    """Up to 0.1.0 the main file had nothing but SQLite's header while the first gateway on it ran."""
    remove_all_but_the_head(path)
    beside(path, ".head").unlink()
    with sqlite3.connect(path) as early:
        early.execute("PRAGMA journal_mode=WAL")
    early.close()


@pytest.mark.parametrize(
    ("lose", "error"),
    [
        (remove, "the ledger is gone, and it had"),
        (remove_all_but_the_head, "the ledger is gone, and it had"),
        (remove_main_file_and_head, "the ledger is gone, and its -wal file is still there"),
        (empty, "the file is empty, and a ledger never is"),
        (empty_and_remove_the_rest, "the file is empty, and a ledger never is"),
        (remove_wal, "its newest events are missing: it ends at event 0, and event"),
        (remove_wal_and_head, "it lacks its -wal file"),
        (empty_wal, "its newest events are missing: it ends at event 0, and event"),
        (cut_wal, "its newest events are missing"),
        (copy_main_file_of_an_early_gateway, "the file is empty, and a ledger never is"),
    ],
)
async def test_start_after_a_loss_is_refused(
    tmp_path: Path, lose: Callable[[Path], None], error: str
) -> None:
    """The error names the file. Beside an empty file SQLite would delete the -wal file."""
    path = tmp_path / "ledger.db"
    assert kill_after(60, path)
    lose(path)
    left = beside(path, "-wal").read_bytes() if lose is empty else None
    for _ in range(2):
        with pytest.raises(LedgerError, match=error) as refused:
            await start(path)
        assert str(path) in str(refused.value)
    assert left is None or beside(path, "-wal").read_bytes() == left


async def test_start_on_an_older_copy_is_refused(tmp_path: Path) -> None:
    """The copy was made with cp between two runs."""
    path = tmp_path / "ledger.db"
    await with_intents(path, "1")
    shutil.copy(path, tmp_path / "copy.db")
    await with_intents(path, "2")
    shutil.copy(tmp_path / "copy.db", path)
    with pytest.raises(LedgerError, match="it ends at event 1, and event 2 was written"):
        await start(path)


async def test_start_without_lost_events_is_allowed_by_a_new_head(tmp_path: Path) -> None:
    """The operator writes the checkpoint from the error or `verify` into the .head file."""
    path = tmp_path / "ledger.db"
    kill_after(20, path)
    remove_wal_and_head(path)
    report = verify(path)
    assert (report.broken, report.events, "lacks its -wal file" in report.missing) == (None, 0, True)
    beside(path, ".head").write_text(f"{report.head}\n")
    assert verify(path).missing == ""
    await with_intents(path, "1")
    assert verify(path).events == 1


async def test_start_with_a_head_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    """The error shows how a checkpoint is written."""
    path = tmp_path / "ledger.db"
    await with_intents(path, "1")
    beside(path, ".head").write_text("one\n")
    with pytest.raises(LedgerError, match=r"ledger\.db\.head: a checkpoint is written seq:hash"):
        await start(path)


async def test_start_on_a_restored_backup_goes_on_from_there(tmp_path: Path) -> None:
    """The log records how much older the backup is."""
    path = tmp_path / "ledger.db"
    await with_intents(path, "1", "2")
    back_up(path, tmp_path / "copy.db")
    await with_intents(path, "3")
    shutil.copy(tmp_path / "copy.db", path)
    with capture_logs() as logs:
        await with_intents(path, "4")
    assert [(each["seq"], each["before"]) for each in logs if each["event"] == "ledger.restored"] == [(2, 3)]
    assert verify(path).events == 3
    with capture_logs() as logs:
        await with_intents(path, "5")
    assert not [each for each in logs if each["event"] == "ledger.restored"]


@pytest.mark.parametrize("restored", ["backup", "copy of a closed ledger"])
async def test_start_on_a_copy_beside_the_wal_of_an_earlier_ledger_is_refused(
    tmp_path: Path, restored: str
) -> None:
    """SQLite would mix both. Nothing is changed, so the copy is usable without the -wal file."""
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    await with_intents(path, "1")
    if restored == "backup":
        back_up(path, copy)
    else:
        shutil.copy(path, copy)
    await with_intents(path, *map(str, range(2, 40)))  # its end copies these into the main file
    assert kill_after(60, path)
    shutil.copy(copy, path)
    for _ in range(2):
        with pytest.raises(LedgerError, match="with its -wal file it is not sound"):
            await start(path)
    assert path.read_bytes() == copy.read_bytes()
    beside(path, "-wal").unlink()
    beside(path, "-shm").unlink()
    beside(path, ".head").unlink()
    await with_intents(path, "after")
    assert verify(path).cancellations == 2


async def test_start_on_a_restored_backup_after_one_that_was_killed_goes_on(tmp_path: Path) -> None:
    """The earlier ledger's .head is replaced before the backup is marked as in use."""
    path, backup = tmp_path / "ledger.db", tmp_path / "backup.db"
    await with_intents(path, "1")
    back_up(path, backup)
    await with_intents(path, "2", "3")
    shutil.copy(backup, path)
    async with run_program(sys.executable, "-c", KILLED_AT_THE_NOTE, str(path)) as killed:
        assert await killed.end() == -signal.SIGKILL, killed.err
    await with_intents(path, "4")
    assert verify(path).cancellations == 2


async def test_start_after_a_start_that_was_killed_before_it_marked_the_main_file_goes_on(
    tmp_path: Path,
) -> None:
    path, killed = tmp_path / "ledger.db", tmp_path / "killed.db"
    await with_intents(path, "1", "2")
    with closing(sqlite3.connect(path)) as starting:
        write_mark(starting, UsageMark.IN_USE)
        for suffix in ("", "-wal"):
            shutil.copy(beside(path, suffix), beside(killed, suffix))
    assert beside(killed, "-wal").stat().st_size > 0
    await with_intents(killed, "3")
    assert verify(killed).cancellations == 3


async def test_start_without_a_head_goes_on(tmp_path: Path) -> None:
    """A ledger of version 0.1.0 has none."""
    path = tmp_path / "ledger.db"
    await with_intents(path, "1")
    beside(path, ".head").unlink()
    await with_intents(path, "2")
    assert beside(path, ".head").read_text() == f"{verify(path).head}\n"


async def test_start_after_a_creation_that_was_killed_makes_a_new_ledger(tmp_path: Path) -> None:
    """An incomplete new ledger has another name."""
    path = tmp_path / "ledger.db"
    for suffix in (".new", ".new-wal", ".new-shm"):
        beside(path, suffix).write_bytes(b"half of it")
    beside(path, ".lock").touch()
    await with_intents(path, "1")
    assert list_names(tmp_path) == ["ledger.db", "ledger.db.head", "ledger.db.lock"]
    assert verify(path).events == 1


async def test_start_through_a_dangling_link_makes_the_ledger_where_it_leads(tmp_path: Path) -> None:
    """The linked volume may be new."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "ledger.db").symlink_to("volume/real.db")
    await with_intents(tmp_path / "ledger.db", "1")
    assert verify(tmp_path / "volume" / "real.db").events == 1
    assert list_names(tmp_path) == ["ledger.db", "volume"]


def test_start_on_links_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").symlink_to("b.db")
    (tmp_path / "b.db").symlink_to("a.db")
    with pytest.raises(LedgerError, match=r"a\.db: cannot be reached"):
        LedgerFile(tmp_path / "a.db")


def itself(path: Path) -> Path:
    return path


def symlink(path: Path) -> Path:
    (path.parent / "link.db").symlink_to(path)
    return path.parent / "link.db"


def link_to_folder(path: Path) -> Path:
    (path.parent / "linked").symlink_to(path.parent)
    return path.parent / "linked" / path.name


def hard_link(path: Path) -> Path:
    (path.parent / "hard.db").hardlink_to(path)
    return path.parent / "hard.db"


@pytest.mark.parametrize("lock_file", ["kept", "removed", "replaced"])
@pytest.mark.parametrize("way", [itself, symlink, link_to_folder, hard_link])
async def test_a_second_start_is_refused(
    ledger: SqlLedger, settings: LedgerSettings, way: Callable[[Path], Path], lock_file: str
) -> None:
    """Every name of the file leads to the same lock. The first gateway goes on, and keeps SQLite's locks.

    Without those locks another program that closes the database would remove the -wal file.
    """
    await ledger.commit_intent(intent("1"))
    if lock_file != "kept":
        beside(file_of(settings), ".lock").unlink()
    if lock_file == "replaced":
        beside(file_of(settings), ".lock").touch()
    path = way(file_of(settings))
    with pytest.raises(LedgerError, match="another gateway process uses this ledger") as refused:
        await start(path)
    assert str(path) in str(refused.value)
    async with run_program(sys.executable, "-c", READING, str(file_of(settings))) as reading:
        assert await reading.end() == 0
    assert beside(file_of(settings), "-wal").stat().st_size > 0
    for name in ("2", "3"):
        await ledger.commit_intent(intent(name))
    await ledger.check()


async def test_check_after_the_main_file_was_cut_fails(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """The gateway is not ready, and the log has the reason."""
    await ledger.commit_intent(intent("1"))
    os.truncate(file_of(settings), 4096)
    with capture_logs() as logs, pytest.raises(LedgerUnavailable) as refused:
        await ledger.check()
    assert "ledger.db: the file was cut" in refused.value.detail
    assert "ledger.db: the file was cut" in logs[0]["reason"]


async def test_check_after_another_programs_checkpoint_passes(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """Replication tools empty the -wal file after copying all of it to the main file."""
    await ledger.commit_intent(intent("1"))
    other = sqlite3.connect(file_of(settings))
    assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    other.close()
    assert beside(file_of(settings), "-wal").stat().st_size == 0
    assert verify(settings.location).missing == ""
    for name in ("2", "3"):
        await ledger.commit_intent(intent(name))
    await ledger.check()


def test_a_read_that_ends_after_the_close_leaves_no_connection(sqlite_settings: LedgerSettings) -> None:
    """Its locks would be dropped at any time later."""
    database, used = SqliteDatabase(sqlite_settings, SystemClock()), list[Any]()

    def close_meanwhile(connection: Any) -> None:
        used.append(connection)
        database.close()

    database.read(close_meanwhile)
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        used[0].execute("SELECT 1")
