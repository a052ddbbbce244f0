"""`eksgateway ledger` on PostgreSQL: the output and exit codes are those for files."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from eksgateway.cli.main import app
from eksgateway.clock import SystemClock
from eksgateway.ledger.sql_ledger import SqlLedger, open_ledger
from eksgateway.ledger.sqlite.backup import back_up
from eksgateway.ledger.verify import verify
from eksgateway.model import Denial, OutcomeKind
from eksgateway.settings import LedgerSettings, PostgresLocation
from support.ledger import list_denials, list_events, tamper
from support.postgres import GATEWAY, OWNER, LedgerDatabase, as_role, create_database, create_ledger
from support.processes import list_names
from support.records import at, caller_with_claims, decision, intent, observation, outcome, ref, update


async def write(ledger: SqlLedger) -> None:
    """Two cancellations, five events and a denied cancel."""
    await ledger.commit_intent(intent("1"))
    await ledger.commit_intent(intent("2", caller=caller_with_claims()))
    await ledger.record_outcome("cancellation-1", outcome())
    await ledger.record_outcome("cancellation-2", outcome(OutcomeKind.NOT_FORWARDED))
    await ledger.record_observation(ref(), observation(update("Cancelled")))
    ledger.record_denial(
        Denial(at(0), "r", caller_with_claims("bob"), intent().request, decision(), "request")
    )
    await ledger.close()


@pytest.fixture
async def database(ledger_database: LedgerDatabase) -> LedgerDatabase:
    await write(await open_ledger(LedgerSettings(url=ledger_database.url), SystemClock()))
    return ledger_database


@pytest.fixture
def empty(postgres: str) -> Iterator[LedgerDatabase]:
    """Another migrated database, without records."""
    with create_ledger(postgres) as other:
        yield other


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A closed ledger in a file, with the same records."""
    settings = LedgerSettings(path=tmp_path / "ledger.db", commit_timeout_s=10)
    await write(await open_ledger(settings, SystemClock()))
    return tmp_path / "ledger.db"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["ledger", *map(str, arguments)])
    return result.exit_code, result.output


def change(database: LedgerDatabase, *statements: str) -> None:
    """As an intruder with the rights of a superuser could."""
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("SET search_path = eksgateway")
        connection.execute("ALTER TABLE events DISABLE TRIGGER ALL")
        for statement in statements:
            connection.execute(statement)


def test_backup_makes_a_file_that_verify_and_list_show_alike(
    database: LedgerDatabase, tmp_path: Path
) -> None:
    copy = tmp_path / "copies" / "copy.db"
    copy.parent.mkdir()
    code, printed = run("backup", copy, "--url", database.url)
    assert (code, f"Copied to {copy} and verified: 5 events, 2 cancellations." in printed) == (0, True)
    assert list_names(copy.parent) == ["copy.db"]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert run("verify", copy) == run("verify", "--url", database.url)
    assert run("list", copy) == run("list", "--url", database.url)
    assert len(run("list", copy)[1].splitlines()) == 6


async def test_a_gateway_starts_on_the_file_that_backup_makes(
    database: LedgerDatabase, tmp_path: Path
) -> None:
    """As on a backup of a file."""
    run("backup", tmp_path / "copy.db", "--url", database.url)
    ledger = await open_ledger(LedgerSettings(path=tmp_path / "copy.db"), SystemClock())
    await ledger.commit_intent(intent("3"))
    await ledger.close()
    head = verify(PostgresLocation(database.url)).head
    assert verify(tmp_path / "copy.db", head).events == head.seq + 1


async def test_a_copied_file_has_the_same_events_cancellations_and_denials(
    path: Path, empty: LedgerDatabase
) -> None:
    location = PostgresLocation(empty.url)
    code, printed = run("copy", "--from", path, "--url", empty.owner_url)
    assert (code, "and verified: 5 events, 2 cancellations." in printed) == (0, True)
    assert list_events(location) == list_events(path)
    assert list_denials(location) == list_denials(path)
    assert verify(location) == verify(path)
    ledger = await open_ledger(LedgerSettings(url=empty.url), SystemClock())
    await ledger.commit_intent(intent("3"))
    await ledger.close()
    assert run("verify", "--url", empty.url, "--checkpoint", verify(path).head)[0] == 0


def test_copy_restores_a_backup(database: LedgerDatabase, empty: LedgerDatabase, tmp_path: Path) -> None:
    run("backup", tmp_path / "copy.db", "--url", database.url)
    assert run("copy", "--from", tmp_path / "copy.db", "--url", empty.owner_url)[0] == 0
    assert run("list", "--url", empty.url) == run("list", "--url", database.url)


def test_copy_into_a_ledger_with_records_is_refused(path: Path, database: LedgerDatabase) -> None:
    """Nothing is changed."""
    before = run("list", "--url", database.url)
    code, printed = run("copy", "--from", path, "--url", database.owner_url)
    assert (code, "the ledger has records already (events)" in printed) == (1, True)
    assert run("list", "--url", database.url) == before


async def test_copy_of_a_file_in_use_is_refused(path: Path, empty: LedgerDatabase) -> None:
    ledger = await open_ledger(LedgerSettings(path=path), SystemClock())
    code, printed = run("copy", "--from", path, "--url", empty.owner_url)
    await ledger.close()
    assert (code, "another gateway process uses this ledger" in printed) == (1, True)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("UPDATE events SET body = replace(body, 'accepted', 'refused') WHERE seq = 3", "at event 3"),
        ("DELETE FROM events WHERE seq = 5", "its newest events are missing"),
        ("UPDATE cancellations SET phase = 'REJECTED'", "differs from its events in phase"),
    ],
)
def test_copy_of_a_broken_file_is_refused(
    path: Path, empty: LedgerDatabase, statement: str, error: str
) -> None:
    """Nothing is copied."""
    tamper(path, statement)
    code, printed = run("copy", "--from", path, "--url", empty.owner_url)
    assert (code, error in printed) == (1, True)
    assert run("list", "--url", empty.url) == (0, "")


def test_copy_of_a_missing_file_creates_none(tmp_path: Path, empty: LedgerDatabase) -> None:
    code, printed = run("copy", "--from", tmp_path / "no.db", "--url", empty.owner_url)
    assert (code, "there is no such file" in printed, list_names(tmp_path)) == (1, True, [])


@pytest.mark.parametrize("command", ["verify", "list", "copy"])
def test_a_folder_is_no_file(tmp_path: Path, empty: LedgerDatabase, command: str) -> None:
    arguments = ("--from", tmp_path, "--url", empty.owner_url) if command == "copy" else (tmp_path,)
    code, printed = run(command, *arguments)
    assert (code, "this is a folder: name the ledger's file in it" in printed) == (1, True)


def test_copy_needs_a_migrated_database_and_its_owner(path: Path, postgres: str) -> None:
    with create_database(postgres) as name:
        owner_url = as_role(postgres, name, OWNER)
        code, printed = run("copy", "--from", path, "--url", owner_url)
        assert (code, "run `eksgateway ledger migrate" in printed) == (1, True)
        code, printed = run("migrate", "--url", owner_url)
        assert (code, "revision 0002, was created." in printed) == (0, True)
        code, printed = run("migrate", "--url", owner_url)
        assert (code, "revision 0002, is there." in printed) == (0, True)
        assert run("copy", "--from", path, "--url", owner_url)[0] == 0


@pytest.mark.parametrize(
    ("statement", "output"),
    [
        (
            "UPDATE events SET body = replace(body, 'accepted', 'refused') WHERE seq = 3",
            "Broken at event 3: its hash does not match its content",
        ),
        ("DELETE FROM events WHERE seq = 3", "Broken at event 3: event 3 is missing"),
        ("UPDATE cancellations SET phase = 'REJECTED' WHERE created = 1", "differs from its events in phase"),
        ("DELETE FROM cancellations WHERE created = 2", "cancellation-2 is missing from the projection"),
    ],
)
def test_verify_and_backup_report_a_change(
    database: LedgerDatabase, tmp_path: Path, statement: str, output: str
) -> None:
    """There is no copy of a broken ledger."""
    change(database, statement)
    code, printed = run("verify", "--url", database.url)
    assert (code, output in printed) == (1, True)
    code, printed = run("backup", tmp_path / "copy.db", "--url", database.url)
    assert (code, "so no copy was made" in printed, list_names(tmp_path)) == (1, True, [])


def test_verify_finds_a_cut_tail_with_a_checkpoint(database: LedgerDatabase) -> None:
    head = verify(PostgresLocation(database.url)).head
    change(database, "DELETE FROM events WHERE seq = 5")
    code, printed = run("verify", "--url", database.url, "--checkpoint", head)
    assert (code, "the tail was cut off" in printed) == (1, True)


async def test_backup_while_gateways_write_has_what_was_acknowledged(
    database: LedgerDatabase, tmp_path: Path
) -> None:
    """Each copy is a snapshot."""
    location = PostgresLocation(database.url)
    ended = asyncio.Event()

    async def write_on(name: str) -> None:
        ledger = await open_ledger(LedgerSettings(url=database.url, commit_timeout_s=20), SystemClock())
        for n in itertools.count(10):
            if ended.is_set():
                break
            await ledger.commit_intent(intent(f"{name}-{n}"))
        await ledger.close()

    writing = [asyncio.create_task(write_on(name)) for name in "ab"]
    for n in range(3):
        before = await asyncio.to_thread(verify, location)
        report = await asyncio.to_thread(back_up, location, tmp_path / f"copy-{n}.db")
        assert report.events >= before.events
        assert verify(tmp_path / f"copy-{n}.db", before.head) == report
    ended.set()
    await asyncio.gather(*writing)


def test_a_standby_or_reader_may_run_verify(database: LedgerDatabase) -> None:
    """Nothing is written: a session that is read-only is enough."""
    url = f"{database.url}?options=-cdefault_transaction_read_only%3Don"
    assert run("verify", "--url", url) == run("verify", "--url", database.url)


@pytest.mark.parametrize("command", ["verify", "list"])
@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("mysql://u:geheim@127.0.0.1/db", "--url: write it as postgresql://user@host/database"),
        ("postgresql://u:geheim@db.example/x", "db.example is not loopback, and the URL demands no TLS"),
        ("postgresql://u:geheim@127.0.0.1:1/x", "see that PostgreSQL runs"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(command: str, url: str, error: str) -> None:
    """The password is in no error."""
    code, printed = run(command, "--url", url)
    assert (code, error in printed, "geheim" in printed, "Traceback" in printed) == (1, True, False, False)


@pytest.mark.parametrize("arguments", [[], ["ledger.db", "--url", "postgresql://u@127.0.0.1/x"]])
def test_a_file_or_a_url_is_needed(arguments: list[str]) -> None:
    code, printed = run("verify", *arguments)
    assert (code, "name either the ledger's file, or --url" in printed) == (2, True)


def test_migrate_reports_a_role_that_could_change_all(database: LedgerDatabase) -> None:
    code, printed = run("migrate", "--url", database.owner_url, "--role", OWNER)
    assert (code, f"The role {OWNER} could change all of it" in printed) == (0, True)
    code, printed = run("migrate", "--url", database.owner_url)
    assert (code, "has the rights of a gateway" in printed) == (0, True)


def test_another_schema_is_another_ledger(database: LedgerDatabase) -> None:
    code, _ = run("migrate", "--url", database.owner_url, "--schema", "second", "--role", GATEWAY)
    assert code == 0
    assert run("list", "--url", database.url, "--schema", "second") == (0, "")
    assert run("list", "--url", database.url)[1] != ""
