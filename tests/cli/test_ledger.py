"""`eksgateway ledger` on sound ledgers, and on ones that were changed."""

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
from eksgateway.ledger.inspection import read_denials, read_events
from eksgateway.ledger.sql_ledger import open_ledger
from eksgateway.ledger.sqlite.backup import back_up
from eksgateway.ledger.verify import verify
from eksgateway.model import Denial, OutcomeKind
from eksgateway.settings import LedgerSettings
from support.ledger import file_of, tamper
from support.processes import list_names
from support.records import at, caller_with_claims, decision, intent, observation, outcome, ref, update


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A closed ledger with two cancellations, five events and a denied cancel."""
    settings = LedgerSettings(path=tmp_path / "ledger.db", commit_timeout_s=10)
    ledger = await open_ledger(settings, SystemClock())
    await ledger.commit_intent(intent("1"))
    await ledger.commit_intent(intent("2", caller=caller_with_claims()))
    await ledger.record_outcome("cancellation-1", outcome())
    await ledger.record_outcome("cancellation-2", outcome(OutcomeKind.NOT_FORWARDED))
    await ledger.record_observation(ref(), observation(update("Cancelled")))
    ledger.record_denial(
        Denial(at(0), "r", caller_with_claims("bob"), intent().request, decision(), "request")
    )
    await ledger.close()
    return file_of(settings)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["ledger", *map(str, arguments)])
    return result.exit_code, result.output


def checkpoint_of(path: Path) -> str:
    code, output = run("verify", path)
    assert code == 0
    return output.partition("Checkpoint: ")[2].partition("\n")[0]


async def test_verify_prints_counts_and_a_checkpoint(path: Path) -> None:
    """The checkpoint fits the ledger."""
    code, output = run("verify", path)
    assert code == 0
    assert "Sound: 5 events, 2 cancellations." in output
    assert run("verify", path, "--checkpoint", checkpoint_of(path)) == (0, output)


def test_verify_takes_a_name_that_is_not_utf_8(path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff?.db"))
    path.rename(odd)
    assert run("verify", odd)[0] == 0


async def test_verify_names_a_changed_event(path: Path) -> None:
    """The exit code is 1."""
    tamper(path, "UPDATE events SET body = replace(body, 'accepted', 'refused') WHERE seq = 3")
    code, output = run("verify", path)
    assert code == 1
    assert "Broken at event 3: its hash does not match its content" in output
    assert "sound up to event 2." in output


async def test_verify_names_a_changed_projection(path: Path) -> None:
    """History is read from the projection."""
    tamper(path, "UPDATE cancellations SET phase = 'REJECTED' WHERE cancellation_id = 'cancellation-1'")
    code, output = run("verify", path)
    assert code == 1
    assert "cancellation-1 differs from its events in phase" in output


async def test_verify_finds_a_cut_tail_with_a_checkpoint(path: Path) -> None:
    """Only an earlier checkpoint shows it."""
    checkpoint = checkpoint_of(path)
    tamper(path, "DELETE FROM events WHERE seq = 5")
    code, output = run("verify", path, "--checkpoint", checkpoint)
    assert code == 1
    assert "the tail was cut off" in output


@pytest.mark.parametrize("command", ["verify", "list"])
@pytest.mark.parametrize("content", [None, b"", b"no database" * 200], ids=["missing", "empty", "other"])
def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path, command: str, content: bytes | None) -> None:
    """The error names the file."""
    path = tmp_path / "other.db"
    if content is not None:
        path.write_bytes(content)
    code, output = run(command, path)
    assert code == 1
    assert str(path) in output
    assert "Traceback" not in output


async def test_backup_copies_all_of_a_ledger_into_one_file(path: Path, tmp_path: Path) -> None:
    """The copy has the ledger's content, and is readable without further files."""
    copy = tmp_path / "copies" / "copy.db"
    copy.parent.mkdir()
    code, printed = run("backup", path, copy)
    assert (code, f"Copied to {copy} and verified: 5 events, 2 cancellations." in printed) == (0, True)
    assert list_names(copy.parent) == ["copy.db"]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert run("verify", copy, "--checkpoint", checkpoint_of(path))[0] == 0
    assert run("list", copy) == run("list", path)
    assert list_names(copy.parent) == ["copy.db"]


async def test_backup_while_a_gateway_writes_has_what_was_acknowledged(path: Path, tmp_path: Path) -> None:
    """Each copy is sound, and has all commits from before it began."""
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


def occupy(copy: Path) -> None:
    copy.write_text("precious")


def occupy_with_a_link(copy: Path) -> None:
    copy.symlink_to("nowhere")


def leave_a_wal(copy: Path) -> None:
    copy.with_name("copy.db-wal").write_text("precious")


@pytest.mark.parametrize("take", [occupy, occupy_with_a_link, leave_a_wal])
async def test_backup_overwrites_nothing(path: Path, tmp_path: Path, take: Callable[[Path], None]) -> None:
    """It puts no copy beside a -wal file, which SQLite would use as the copy's."""
    take(tmp_path / "copy.db")
    before = list_names(tmp_path)
    code, printed = run("backup", path, tmp_path / "copy.db")
    assert (code, "is there already, and is not overwritten" in printed) == (1, True)
    assert list_names(tmp_path) == before


def test_backup_of_a_ledger_onto_itself_is_refused(path: Path) -> None:
    before = path.read_bytes()
    assert run("backup", path, path)[0] == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", ["-wal", "-shm", ".head", ".new"])
async def test_backup_to_a_name_of_the_ledgers_own_is_refused(path: Path, suffix: str) -> None:
    """The next start would misread or remove it."""
    copy = path.with_name(path.name + suffix)
    copy.unlink(missing_ok=True)
    code, printed = run("backup", path, copy)
    assert (code, "is a name that the ledger uses itself" in printed, copy.exists()) == (1, True, False)


@pytest.mark.parametrize(
    ("copy", "error"),
    [("", "is a folder: name a new file in it"), ("missing/copy.db", "is not a folder: create it")],
)
async def test_backup_to_a_folder_or_a_missing_one_is_refused(
    path: Path, tmp_path: Path, copy: str, error: str
) -> None:
    code, printed = run("backup", path, tmp_path / copy)
    assert (code, error in printed, "Traceback" in printed) == (1, True, False)


async def test_backup_of_a_broken_ledger_leaves_no_copy(path: Path, tmp_path: Path) -> None:
    """A copy that does not verify is removed."""
    tamper(path, "DELETE FROM events WHERE seq = 3")
    code, printed = run("backup", path, tmp_path / "copy.db")
    assert (code, "is broken at event 3" in printed) == (1, True)
    assert not [name for name in list_names(tmp_path) if "copy.db" in name]


async def test_a_copy_without_its_wal_is_incomplete(path: Path, tmp_path: Path) -> None:
    """The exit code is 1, and the output has the remedy. `list` prints it and the events that are there."""
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


async def test_verify_refuses_an_invalid_checkpoint(path: Path) -> None:
    """The error shows how one is written."""
    code, output = run("verify", path, "--checkpoint", "5")
    assert code == 1
    assert "--checkpoint 5: a checkpoint is written seq:hash" in output


async def test_list_prints_tab_separated_lines_to_a_pipe(path: Path) -> None:
    """Each event and denied cancel has one line of five columns, and nothing is cut off."""
    code, output = run("list", path)
    assert code == 0
    rows = [line.split("\t") for line in output.splitlines()]
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


async def test_list_leaves_out_the_claims_of_callers(path: Path) -> None:
    """They are recorded with intents and denials."""
    events = [each.body for each in read_events(path)]
    assert ["payments-app" in body for body in events] == [False, True, False, False, False]
    assert all(each.caller.claims for each in read_denials(path))
    assert "payments-app" not in run("list", path)[1]


@pytest.mark.parametrize("width", [80, 120])
async def test_list_prints_a_table_to_a_terminal(path: Path, width: int) -> None:
    """The table fits the width, and its long cells are folded."""
    screen = io.StringIO()
    list_ledger(path, Console(file=screen, force_terminal=True, width=width, color_system=None))
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines if re.match(" [0-9]", line)] == ["1", "2", "3", "4", "5"]
    assert sum("denied" in line for line in lines) == 1


async def test_list_escapes_control_characters(path: Path) -> None:
    """Escape sequences, line breaks and bytes that are no text are escaped, and the list goes on."""
    tamper(
        path,
        "UPDATE events SET kind = 'x' || char(27) || '[2J' WHERE seq = 2",
        "UPDATE events SET body = 'a' || char(10) || 'b' WHERE seq = 3",
        "UPDATE events SET body = CAST(x'ff' AS TEXT) WHERE seq = 4",
    )
    code, output = run("list", path)
    assert code == 0
    assert "\x1b" not in output
    assert len(output.splitlines()) == 6
    assert "x\\x1b[2J" in output
    assert r"not readable: a\nb" in output


async def test_list_refuses_a_changed_denial(path: Path) -> None:
    """The hash chain does not cover the denial log, but its lines must be readable."""
    with sqlite3.connect(path) as other:
        other.execute("UPDATE decisions SET body = '{}'")
    other.close()
    code, output = run("list", path)
    assert code == 1
    assert "the log of denied cancels was changed" in output


def test_escape_unprintable_leaves_text_as_it_is() -> None:
    """All else is written as an escape sequence."""
    assert escape_unprintable("Ämter, 東京 'x'") == "Ämter, 東京 'x'"
    assert escape_unprintable("a\tb\r\n\x1b\u2028\udcff") == r"a\tb\r\n\x1b\u2028\udcff"
