"""`eksgateway ledger`: what it prints of sound ledgers, and of ones that somebody has changed."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from eksgateway.cli.ledger import escape_unprintable, list_ledger
from eksgateway.cli.main import app
from eksgateway.clock import SystemClock
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.ledger.sqlite.backup import back_up
from eksgateway.ledger.verify import verify
from eksgateway.model import Denial, OutcomeKind
from eksgateway.settings import LedgerSettings
from support.processes import names_in
from support.records import at, caller, decision, intent, observation, outcome, ref, update


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A closed ledger with two cancellations, five events and a denied cancel."""
    settings = LedgerSettings(path=tmp_path / "ledger.db", commit_timeout_s=10)
    ledger = await open_ledger(settings, SystemClock())
    for name in "12":
        await ledger.commit_intent(intent(name))
    await ledger.record_outcome("cancellation-1", outcome())
    await ledger.record_outcome("cancellation-2", outcome(OutcomeKind.NOT_FORWARDED))
    await ledger.record_observation(ref(), observation(update("Cancelled")))
    ledger.record_denial(Denial(at(0), "r", caller("bob"), intent().request, decision(), "request"))
    await ledger.close()
    return settings.path


def change(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as other:
        for verb in ("update", "delete"):
            other.execute(f"DROP TRIGGER events_refuse_{verb}")
        for statement in statements:
            other.execute(statement)
    other.close()


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["ledger", *map(str, arguments)])
    return result.exit_code, result.output


def checkpoint_of(path: Path) -> str:
    code, told = run("verify", path)
    assert code == 0
    return told.partition("Checkpoint: ")[2].partition("\n")[0]


async def test_a_sound_ledger(path: Path) -> None:
    """It counts what is there and gives a checkpoint, which fits."""
    code, told = run("verify", path)
    assert code == 0
    assert "Sound: 5 events, 2 cancellations." in told
    assert run("verify", path, "--checkpoint", checkpoint_of(path)) == (0, told)


def test_a_name_that_is_not_utf_8(path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff?.db"))
    path.rename(odd)
    assert run("verify", odd)[0] == 0


async def test_a_changed_event(path: Path) -> None:
    """Exit 1, and which event it is."""
    change(path, "UPDATE events SET body = replace(body, 'accepted', 'refused') WHERE seq = 3")
    code, told = run("verify", path)
    assert code == 1
    assert "Broken at event 3: its hash does not match its content" in told
    assert "sound up to event 2." in told


async def test_a_changed_projection(path: Path) -> None:
    """What history shows has to be what the events say."""
    change(path, "UPDATE cancellations SET phase = 'REJECTED' WHERE cancellation_id = 'cancellation-1'")
    code, told = run("verify", path)
    assert code == 1
    assert "cancellation-1 differs from its events in phase" in told


async def test_a_tail_that_was_cut_off(path: Path) -> None:
    """Shows with an earlier checkpoint only."""
    checkpoint = checkpoint_of(path)
    change(path, "DELETE FROM events WHERE seq = 5")
    code, told = run("verify", path, "--checkpoint", checkpoint)
    assert code == 1
    assert "the tail was cut off" in told


@pytest.mark.parametrize("command", ["verify", "list"])
@pytest.mark.parametrize("content", [None, b"", b"no database" * 200], ids=["missing", "empty", "other"])
def test_what_is_no_ledger(tmp_path: Path, command: str, content: bytes | None) -> None:
    """Said in words, with the file's name."""
    path = tmp_path / "other.db"
    if content is not None:
        path.write_bytes(content)
    code, told = run(command, path)
    assert code == 1
    assert str(path) in told
    assert "Traceback" not in told


async def test_backup_copies_all_of_a_ledger_into_one_file(path: Path, tmp_path: Path) -> None:
    """It has what the ledger has, and can be read where nothing can be written."""
    copy = tmp_path / "copies" / "copy.db"
    copy.parent.mkdir()
    code, printed = run("backup", path, copy)
    assert (code, f"Copied to {copy} and verified: 5 events, 2 cancellations." in printed) == (0, True)
    assert names_in(copy.parent) == ["copy.db"]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert run("verify", copy, "--checkpoint", checkpoint_of(path))[0] == 0
    assert run("list", copy) == run("list", path)
    assert names_in(copy.parent) == ["copy.db"]


async def test_backup_while_a_gateway_writes_has_what_was_acknowledged(path: Path, tmp_path: Path) -> None:
    """Each copy is sound, has all that was committed before it began, and grows with the ledger."""
    ledger = await open_ledger(LedgerSettings(path=path, commit_timeout_s=20), SystemClock())
    ended = asyncio.Event()

    async def write() -> None:
        for n in itertools.count(10):
            if ended.is_set():
                return
            await ledger.commit_intent(intent(str(n)))

    writing = asyncio.create_task(write())
    counted = [0]
    for n in range(5):
        before = verify(path).events
        report = await asyncio.to_thread(back_up, path, tmp_path / f"copy-{n}.db")
        assert report.events >= max(before, counted[-1])
        assert report == verify(tmp_path / f"copy-{n}.db")
        counted.append(report.events)
    ended.set()
    await writing
    await ledger.close()


def taken(copy: Path) -> None:
    copy.write_text("precious")


def taken_by_a_link(copy: Path) -> None:
    copy.symlink_to("nowhere")


def wal_of_another(copy: Path) -> None:
    copy.with_name("copy.db-wal").write_text("precious")


@pytest.mark.parametrize("take", [taken, taken_by_a_link, wal_of_another])
async def test_backup_overwrites_nothing(path: Path, tmp_path: Path, take: Callable[[Path], None]) -> None:
    """Nor does it put a copy beside a -wal file that SQLite would take for the copy's."""
    take(tmp_path / "copy.db")
    before = names_in(tmp_path)
    code, printed = run("backup", path, tmp_path / "copy.db")
    assert (code, "is there already, and is not overwritten" in printed) == (1, True)
    assert names_in(tmp_path) == before


def test_backup_of_a_ledger_onto_itself_is_refused(path: Path) -> None:
    before = path.read_bytes()
    assert run("backup", path, path)[0] == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", ["-wal", "-shm", ".head", ".new"])
async def test_backup_to_a_name_of_the_ledgers_own_is_refused(path: Path, suffix: str) -> None:
    """The next start would read it as something else, or remove it."""
    copy = path.with_name(path.name + suffix)
    copy.unlink(missing_ok=True)
    code, printed = run("backup", path, copy)
    assert (code, "is a name that the ledger uses itself" in printed, copy.exists()) == (1, True, False)


@pytest.mark.parametrize(
    ("copy", "says"),
    [("", "is a folder: name a new file in it"), ("missing/copy.db", "is not a folder: create it")],
)
async def test_backup_to_a_place_that_is_none(path: Path, tmp_path: Path, copy: str, says: str) -> None:
    code, printed = run("backup", path, tmp_path / copy)
    assert (code, says in printed, "Traceback" in printed) == (1, True, False)


async def test_backup_of_a_broken_ledger_leaves_no_copy(path: Path, tmp_path: Path) -> None:
    """A backup that does not verify is none."""
    change(path, "DELETE FROM events WHERE seq = 3")
    code, printed = run("backup", path, tmp_path / "copy.db")
    assert (code, "is broken at event 3" in printed) == (1, True)
    assert not [name for name in names_in(tmp_path) if "copy.db" in name]


async def test_a_copy_without_its_wal_is_incomplete(path: Path, tmp_path: Path) -> None:
    """Exit 1, what is missing and what to do instead; `list` prints what is there, and the same."""
    ledger = await open_ledger(LedgerSettings(path=path, commit_timeout_s=20), SystemClock())
    await ledger.commit_intent(intent("3"))
    copy = tmp_path / "copy.db"
    shutil.copy(path, copy)
    await ledger.close()
    code, printed = run("verify", copy)
    assert code == 1
    assert "Incomplete: it lacks its -wal file" in printed
    assert "eksgateway ledger backup FILE COPY" in printed
    assert "What is here is sound: 5 events, 2 cancellations." in printed
    code, printed = run("list", copy)
    assert (code, "Incomplete: it lacks its -wal file" in printed, "observation" in printed) == (
        0,
        True,
        True,
    )


async def test_a_checkpoint_that_is_none(path: Path) -> None:
    """The error shows how one is written."""
    code, told = run("verify", path, "--checkpoint", "5")
    assert code == 1
    assert "--checkpoint 5: a checkpoint is written seq:hash" in told


async def test_the_list_in_a_pipe(path: Path) -> None:
    """One line for each event and each denied cancel: five columns, nothing cut off."""
    code, told = run("list", path)
    assert code == 0
    rows = [line.split("\t") for line in told.splitlines()]
    assert [len(row) for row in rows] == [5] * 6
    assert [(row[0], row[2], row[3]) for row in rows] == [
        ("", "denied", ""),
        ("1", "intent", "cancellation-1"),
        ("2", "intent", "cancellation-2"),
        ("3", "outcome", "cancellation-1"),
        ("4", "outcome", "cancellation-2"),
        ("5", "observation", "cancellation-1"),
    ]
    assert rows[1][4] == (
        "jwt:corp:ann on 111122223333/us-east-1/payments/u-1, VersionRollback,"
        " reason 'it is broken', ticket 'INC-1'"
    )
    assert [row[4] for row in rows[3:]] == ["accepted", "not_forwarded", "Cancelled"]


@pytest.mark.parametrize("width", [80, 120])
async def test_the_list_in_a_terminal(path: Path, width: int) -> None:
    """A table that fits, its long cells folded."""
    screen = io.StringIO()
    list_ledger(path, Console(file=screen, force_terminal=True, width=width, color_system=None))
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines if re.match(" [0-9]", line)] == ["1", "2", "3", "4", "5"]
    assert sum("denied" in line for line in lines) == 1


async def test_what_was_written_into_it_cannot_command_a_terminal(path: Path) -> None:
    """Neither escapes, nor line breaks, nor bytes that are no text; the list goes on behind them."""
    change(
        path,
        "UPDATE events SET kind = 'x' || char(27) || '[2J' WHERE seq = 2",
        "UPDATE events SET body = 'a' || char(10) || 'b' WHERE seq = 3",
        "UPDATE events SET body = CAST(x'ff' AS TEXT) WHERE seq = 4",
    )
    code, told = run("list", path)
    assert code == 0
    assert "\x1b" not in told
    assert len(told.splitlines()) == 6
    assert "x\\x1b[2J" in told
    assert r"not readable: a\nb" in told


async def test_a_denial_that_was_changed(path: Path) -> None:
    """The log of denied cancels is no part of the chain, but has to be readable."""
    with sqlite3.connect(path) as other:
        other.execute("UPDATE decisions SET body = '{}'")
    other.close()
    code, told = run("list", path)
    assert code == 1
    assert "the log of denied cancels was changed" in told


def test_printable() -> None:
    """Text stays as it is; all else is spelt out."""
    assert escape_unprintable("Ämter, 東京 'x'") == "Ämter, 東京 'x'"
    assert escape_unprintable("a\tb\r\n\x1b\u2028\udcff") == r"a\tb\r\n\x1b\u2028\udcff"
