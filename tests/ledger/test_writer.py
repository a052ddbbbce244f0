"""A write that fails harms no other of its batch; a database that fails delays no batch."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from eksgateway.errors import LedgerUnavailable, OutcomeUnrecorded
from eksgateway.ledger.codec import decode
from eksgateway.ledger.projection import DenialsLost
from eksgateway.ledger.sql_ledger import SqlLedger
from eksgateway.ledger.sqlite.errors import explain, fails_every_write
from eksgateway.ledger.verify import verify
from eksgateway.model import CancelRequest, Intent, Justification, OutcomeKind
from eksgateway.settings import LedgerSettings
from support.ledger import (
    ON_SQLITE,
    Faults,
    admit,
    faulty_ledger,
    file_of,
    hold_write_lock,
    list_denials,
    list_events,
    refuse,
    refuse_at_commit,
    run_in_one_batch,
)
from support.logs import capture_logs
from support.records import denial, intent, outcome, ref
from support.waiting import wait_until


@pytest.fixture
def limits() -> dict[str, Any]:
    return {"commit_timeout_s": 10, "denials": 2000}


@pytest.fixture(params=["ABORT", "ROLLBACK"])
def undoes(request: pytest.FixtureRequest, settings: LedgerSettings) -> str:
    """SQLite's reactions to a refused row. PostgreSQL has one."""
    if settings.url is not None and request.param == "ROLLBACK":
        pytest.skip("PostgreSQL always undoes the transaction")
    return str(request.param)


@pytest.fixture
def ledger(faulty: tuple[SqlLedger, Faults]) -> SqlLedger:
    return faulty[0]


def bodies(settings: LedgerSettings) -> list[tuple[str, str]]:
    return [(each.kind, each.cancellation_id) for each in list_events(settings.location)]


async def test_one_refused_write_harms_no_other_of_its_batch(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings, undoes: str
) -> None:
    """The others are durable and in order; the refused one leaves nothing."""
    refuse(settings.location, "events", "token-4", undoes)
    with capture_logs() as logs:
        results = await run_in_one_batch(
            faults, ledger, *(ledger.commit_intent(intent(str(n))) for n in range(8))
        )
    assert [each["event"] for each in logs if "write" in each["event"]] == ["ledger.write_refused"]
    failed = [number for number, each in enumerate(results) if isinstance(each, Exception)]
    assert failed == [4]
    assert isinstance(results[4], LedgerUnavailable)
    assert "refused" in results[4].detail
    assert bodies(settings) == [
        ("intent", f"cancellation-{name}") for name in ("first", "0", "1", "2", "3", "5", "6", "7")
    ]
    await ledger.check()
    admit(settings.location)
    await ledger.commit_intent(intent("4"))


async def test_one_refused_write_of_many_costs_few_transactions(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings
) -> None:
    """The batch is committed in halves around it, in 2·log2(64) transactions, not in 64 single ones."""
    refuse(settings.location, "events", "token-41")
    faults.begun = 0
    results = await run_in_one_batch(
        faults, ledger, *(ledger.commit_intent(intent(str(n))) for n in range(64))
    )
    assert [number for number, each in enumerate(results) if isinstance(each, Exception)] == [41]
    assert faults.begun < 32  # some are of the backlog, which closes the refused intent
    admit(settings.location)


async def test_a_failed_commit_is_tried_again_for_each_of_its_batch(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings
) -> None:
    """Only the one with the deferred constraint, which is checked at COMMIT, fails."""
    refuse_at_commit(settings.location, "token-2")
    results = await run_in_one_batch(
        faults, ledger, *(ledger.commit_intent(intent(str(n))) for n in range(4))
    )
    assert [isinstance(each, LedgerUnavailable) for each in results] == [False, False, True, False]
    assert [name for _, name in bodies(settings)] == [f"cancellation-{n}" for n in ("first", "0", "1", "3")]
    admit(settings.location)


@ON_SQLITE
async def test_a_record_that_cannot_be_read_harms_no_other_of_its_batch(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings
) -> None:
    """The rows of a batch are read together, and then again for each of its writes."""
    await asyncio.gather(*(ledger.commit_intent(intent(str(n))) for n in range(4)))
    faults.unreadable = "cancellation-2"
    calls = (ledger.record_outcome(f"cancellation-{n}", outcome()) for n in range(4))
    results = await run_in_one_batch(faults, ledger, *calls)
    faults.unreadable = ""
    assert [isinstance(each, OutcomeUnrecorded) for each in results] == [False, False, True, False]
    assert "malformed" in results[2].detail
    await wait_until(lambda: ("outcome", "cancellation-2") in bodies(settings))


def leave_pages(faults: Faults, settings: LedgerSettings, count: int) -> None:
    """Let the disk have room for so many more pages."""
    with closing(sqlite3.connect(file_of(settings))) as other:
        (pages,) = other.execute("PRAGMA page_count").fetchone()
    faults.pages = pages + count


def intent_of(name: int, size: int) -> Intent:
    return intent(str(name), request=CancelRequest(ref(), Justification("x" * size, "")))


@ON_SQLITE
async def test_a_write_that_does_not_fit_harms_no_other_of_its_batch(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings
) -> None:
    """The small ones are written to a disk that is nearly full."""
    leave_pages(faults, settings, 50)
    sizes = [1, 1, 400_000, 1, 1]
    calls = (ledger.commit_intent(intent_of(n, size)) for n, size in enumerate(sizes))
    results = await run_in_one_batch(faults, ledger, *calls)
    assert [isinstance(each, LedgerUnavailable) for each in results] == [size > 1 for size in sizes]
    assert "free some space" in results[2].detail


@ON_SQLITE
async def test_a_full_disk_fails_a_batch_after_two_attempts(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings
) -> None:
    """Where nothing fits, the rest of the batch is not tried one by one."""
    leave_pages(faults, settings, 50)
    with capture_logs() as logs:
        calls = (ledger.commit_intent(intent_of(n, 400_000)) for n in range(6))
        results = await run_in_one_batch(faults, ledger, *calls)
    assert {type(each) for each in results} == {LedgerUnavailable}
    failed = [each["operations"] for each in logs if each["event"] == "ledger.write_failed"]
    assert failed == [1, 5]


async def test_a_locked_database_fails_a_batch_after_one_wait(
    settings: LedgerSettings,
) -> None:
    """Two hundred writes wait for the lock together."""
    ledger, _ = faulty_ledger(settings.model_copy(update={"commit_timeout_s": 1}))
    with hold_write_lock(settings):
        before = asyncio.get_running_loop().time()
        calls = [ledger.record_outcome(f"cancellation-{n}", outcome()) for n in range(200)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in results} == {OutcomeUnrecorded}
        assert asyncio.get_running_loop().time() - before < 10
    await ledger.close()


async def test_a_disk_that_fails_slowly_fails_a_batch_at_once(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings
) -> None:
    """The second attempt of such a batch would take as long for each of its writes."""
    refuse(settings.location, "events", 'token-_"', "ROLLBACK")
    faults.slow_s = 0.7
    results = await run_in_one_batch(
        faults, ledger, *(ledger.commit_intent(intent(str(n))) for n in range(9))
    )
    assert {type(each) for each in results} == {LedgerUnavailable}
    assert faults.begun <= 3
    admit(settings.location)


async def test_an_owed_outcome_that_is_refused_keeps_no_other_waiting(settings: LedgerSettings) -> None:
    """The other one is written, the gateway is ready, and the refused one is written later."""
    settings = settings.model_copy(update={"commit_timeout_s": 1})
    ledger, _ = faulty_ledger(settings)
    await asyncio.gather(*(ledger.commit_intent(intent(str(n))) for n in range(2)))
    refuse(settings.location, "events", "accepted", "ROLLBACK")
    outcomes = (outcome(), outcome(OutcomeKind.NOT_FORWARDED))
    with hold_write_lock(settings):
        calls = (ledger.record_outcome(f"cancellation-{n}", each) for n, each in enumerate(outcomes))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in results} == {OutcomeUnrecorded}
    await wait_until(lambda: ("outcome", "cancellation-1") in bodies(settings))
    await wait_until(lambda: ledger._backlog.waiting == 0)  # noqa: SLF001 (it is refused once more, by itself)
    await ledger.check()
    admit(settings.location)
    await wait_until(lambda: ("outcome", "cancellation-0") in bodies(settings))
    await ledger.close()
    assert verify(settings.location).broken is None


async def test_a_refused_denial_is_counted_and_keeps_no_other_waiting(
    ledger: SqlLedger, settings: LedgerSettings, undoes: str
) -> None:
    """The other 999 are in the log, and the gateway is ready."""
    refuse(settings.location, "decisions", "request-700", undoes)
    for n in range(1000):
        ledger.record_denial(denial(str(n)))
    await wait_until(lambda: len(list_denials(settings.location)) == 999)
    await wait_until(lambda: list_events(settings.location))
    (lost,) = list_events(settings.location)
    assert decode(DenialsLost, lost.body) == DenialsLost(1)
    await ledger.check()
    admit(settings.location)


async def test_denials_that_cannot_be_dropped_leave_the_gateway_ready(settings: LedgerSettings) -> None:
    """The log grows, further denials are written, and it is pruned when that is possible again."""
    settings = settings.model_copy(update={"keep_denials": 10})
    ledger, _ = faulty_ledger(settings)
    refuse(settings.location, "decisions", "", verb="DELETE")
    with capture_logs() as logs:
        for n in range(50):
            ledger.record_denial(denial(str(n)))
        await wait_until(lambda: len(list_denials(settings.location)) == 50)
        await wait_until(lambda: any(each["event"] == "ledger.denials_not_dropped" for each in logs))
    await ledger.check()
    admit(settings.location)
    ledger.record_denial(denial("51"))
    await wait_until(lambda: len(list_denials(settings.location)) == 10)
    await wait_until(lambda: list_events(settings.location))
    (lost,) = list_events(settings.location)
    assert decode(DenialsLost, lost.body) == DenialsLost(41, full=True)
    await ledger.close()


async def test_many_denials_are_dropped_in_small_steps(settings: LedgerSettings) -> None:
    """A limit that was lowered by much causes no long transaction."""
    before, _ = faulty_ledger(settings)
    for n in range(1700):
        before.record_denial(denial(str(n)))
    await before.close()
    ledger, _ = faulty_ledger(settings.model_copy(update={"keep_denials": 10}))
    ledger.record_denial(denial("last"))
    await wait_until(lambda: len(list_denials(settings.location)) == 10)
    await ledger.close()
    lost = [decode(DenialsLost, each.body).count for each in list_events(settings.location)]
    assert (sum(lost), max(lost)) == (1691, 500)
    assert verify(settings.location).broken is None


class SqliteError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__("in SQLite's words")
        self.sqlite_errorname = name


@pytest.mark.parametrize(
    ("name", "whole", "hint"),
    [
        ("SQLITE_BUSY", True, "end that program"),
        ("SQLITE_BUSY_SNAPSHOT", True, "end that program"),
        ("SQLITE_LOCKED_SHAREDCACHE", True, "end that program"),
        ("SQLITE_FULL", True, "free some space"),
        ("SQLITE_READONLY_DBMOVED", True, "permissions"),
        ("SQLITE_READONLY_DIRECTORY", True, "permissions"),
        ("SQLITE_PERM", True, "permissions"),
        ("SQLITE_CANTOPEN", True, "ulimit -n"),
        ("SQLITE_CANTOPEN_ISDIR", True, "cannot be opened"),
        ("SQLITE_NOTADB", True, "not a ledger"),
        ("SQLITE_NOLFS", True, "file system"),
        ("SQLITE_IOERR", True, "system's log"),
        ("SQLITE_IOERR_WRITE", True, "quota"),
        ("SQLITE_IOERR_FSYNC", True, "system's log"),
        ("SQLITE_IOERR_SHMSIZE", True, "-shm file"),
        ("SQLITE_IOERR_LOCK", True, "file locks"),
        ("SQLITE_IOERR_GETTEMPPATH", False, "TMPDIR"),
        ("SQLITE_IOERR_READ", False, "the disk fails"),
        ("SQLITE_IOERR_SHORT_READ", False, "cut"),
        ("SQLITE_IOERR_CORRUPTFS", False, "check it"),
        ("SQLITE_CORRUPT", False, "backup"),
        ("SQLITE_CORRUPT_INDEX", False, "backup"),
        ("SQLITE_NOMEM", False, "memory limit"),
        ("SQLITE_TOOBIG", False, "too large"),
        ("SQLITE_CONSTRAINT_TRIGGER", False, ""),
        ("", False, ""),
    ],
)
def test_sqlite_errors_have_a_hint_and_a_reach(name: str, whole: bool, hint: str) -> None:
    """An error text has the remedy where one is known. The reach: whether other writes would fail too."""
    error = SqliteError(name)
    assert fails_every_write(error) is whole
    assert explain(error).startswith("in SQLite's words")
    assert hint in explain(error)
    assert ("(" in explain(error)) == bool(hint)
