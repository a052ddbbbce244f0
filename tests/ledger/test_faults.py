"""A database that hangs, is locked, is full or is gone.

No call waits past its deadline, every loss is logged, and owed writes are written when the database is back.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eksgateway.errors import LedgerUnavailable, OutcomeUnrecorded
from eksgateway.ledger.backlog import RETRY_S
from eksgateway.ledger.codec import decode
from eksgateway.ledger.database import StorageError
from eksgateway.ledger.projection import DenialsLost
from eksgateway.ledger.query_pool import QueryPool
from eksgateway.ledger.sql_ledger import SqlLedger
from eksgateway.ledger.verify import verify
from eksgateway.model import Observation, OutcomeKind, Phase
from eksgateway.settings import LedgerSettings
from support.clock import FakeClock
from support.ledger import (
    ON_SQLITE,
    Faults,
    faulty_ledger,
    file_of,
    hold_write_lock,
    list_denials,
    list_events,
    read_cancellations,
)
from support.logs import capture_logs
from support.processes import run_program
from support.records import at, decision, denial, intent, observation, outcome, ref, update
from support.waiting import wait_until

STARVED = Path(__file__).with_name("starved_process.py")


@pytest.fixture
def limits() -> dict[str, Any]:
    return {"commit_timeout_s": 1, "queue": 8, "denials": 10}


@pytest.fixture
def ledger(faulty: tuple[SqlLedger, Faults]) -> SqlLedger:
    return faulty[0]


def kinds(settings: LedgerSettings) -> list[str]:
    return [event.kind for event in list_events(settings.location)]


async def wait_until_held(faults: Faults) -> None:
    await wait_until(faults.held.is_set)


async def test_a_locked_database_fails_writes_and_serves_reads(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """Another program holds the lock. The failed write is not written later either."""
    before = asyncio.get_running_loop().time()
    with hold_write_lock(settings):
        with pytest.raises(LedgerUnavailable):
            await ledger.commit_intent(intent())
        if settings.path is not None:  # on PostgreSQL, ``check`` takes no lock
            with pytest.raises(LedgerUnavailable):
                await ledger.check()
        assert await ledger.pending() == ()
    assert asyncio.get_running_loop().time() - before < 10
    await ledger.commit_intent(intent("2"))
    assert [each.id for each in read_cancellations(settings.location)] == ["cancellation-2"]
    await until_ready(ledger)


async def until_ready(ledger: SqlLedger) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                return await ledger.check()
            except LedgerUnavailable:
                await asyncio.sleep(0.01)


async def until_not_ready(ledger: SqlLedger) -> None:
    async with asyncio.timeout(60):
        with suppress(LedgerUnavailable):
            while True:
                await ledger.check()
                await asyncio.sleep(0.01)


async def test_an_intent_committed_too_late_is_closed(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings
) -> None:
    """Its caller got LEDGER_UNAVAILABLE and sends nothing, so the phase is NOT_FORWARDED."""
    faults.release.clear()
    with pytest.raises(LedgerUnavailable):
        await ledger.commit_intent(intent())
    assert faults.held.is_set()
    faults.release.set()
    await wait_until(lambda: kinds(settings) == ["intent", "closed"])
    (found,) = read_cancellations(settings.location)
    assert (found.phase, found.settled, found.forward_time) == (Phase.NOT_FORWARDED, True, None)
    assert await ledger.renew_intent(intent(decision=decision("2"), time=at(5)))


async def test_a_renewal_committed_too_late_is_closed(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings
) -> None:
    """A renewal is closed like a first intent."""
    await ledger.commit_intent(intent())
    await ledger.record_outcome("cancellation-1", outcome(OutcomeKind.NOT_FORWARDED))
    faults.release.clear()
    with pytest.raises(LedgerUnavailable):
        await ledger.renew_intent(intent(decision=decision("2"), time=at(5)))
    faults.release.set()
    await wait_until(lambda: kinds(settings)[2:] == ["intent_renewed", "closed"])
    assert read_cancellations(settings.location)[0].phase is Phase.NOT_FORWARDED


async def test_an_operation_abandoned_in_the_queue_is_skipped(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings
) -> None:
    """It waited behind a write that hung."""
    faults.release.clear()
    first = asyncio.create_task(ledger.commit_intent(intent("1")))
    await wait_until_held(faults)
    with pytest.raises(LedgerUnavailable):
        await ledger.commit_intent(intent("2"))
    faults.release.set()
    with pytest.raises(LedgerUnavailable):
        await first
    await wait_until(lambda: kinds(settings) == ["intent", "closed"])
    await until_ready(ledger)
    assert [each.id for each in read_cancellations(settings.location)] == ["cancellation-1"]


@pytest.mark.parametrize("fault", ["locked before it began", "hung while it was committed"])
async def test_an_outcome_that_cannot_be_written_is_written_later(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings, fault: str
) -> None:
    """The caller gets OutcomeUnrecorded. The ledger is not ready until the outcome is written, once."""
    await ledger.commit_intent(intent())
    with capture_logs() as logs:
        if fault.startswith("locked"):
            with hold_write_lock(settings), pytest.raises(OutcomeUnrecorded) as raised:
                await ledger.record_outcome("cancellation-1", outcome())
        else:
            faults.release.clear()
            with pytest.raises(OutcomeUnrecorded) as raised:
                await ledger.record_outcome("cancellation-1", outcome())
            faults.release.set()
        assert raised.value.metadata == {"cancellation_id": "cancellation-1"}
        await until_ready(ledger)
    assert read_cancellations(settings.location)[0].phase is Phase.REQUESTED
    assert kinds(settings) == ["intent", "outcome"]
    assert any(each["event"] == "ledger.owed" for each in logs)


async def test_not_ready_while_an_outcome_is_owed(settings: LedgerSettings) -> None:
    """``check`` fails while an outcome is only in memory."""
    clock = FakeClock()
    ledger, _ = faulty_ledger(settings, clock)
    await ledger.commit_intent(intent())
    with hold_write_lock(settings):
        with pytest.raises(OutcomeUnrecorded):
            await ledger.record_outcome("cancellation-1", outcome())
        await wait_until(lambda: clock.sleepers)  # the first attempt to write it has failed as well
    with pytest.raises(LedgerUnavailable) as raised:
        await ledger.check()
    assert "wait to be written" in raised.value.detail
    await clock.advance(RETRY_S)
    await until_ready(ledger)
    await ledger.close()


async def test_a_later_outcome_replaces_an_owed_one(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """EKS's late answer follows an unknown outcome that could not be written."""
    await ledger.commit_intent(intent())
    with hold_write_lock(settings), pytest.raises(OutcomeUnrecorded):
        await ledger.record_outcome("cancellation-1", outcome(OutcomeKind.UNKNOWN))
    with suppress(OutcomeUnrecorded):  # it may fail together with a write that waited for the lock
        await ledger.record_outcome("cancellation-1", outcome())
    await until_ready(ledger)
    assert read_cancellations(settings.location)[0].phase is Phase.REQUESTED


async def test_commit_intent_fails_while_too_many_outcomes_are_owed(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """New intents are accepted again when the owed outcomes are written."""
    await asyncio.gather(*(ledger.commit_intent(intent(str(n))) for n in range(8)))
    with hold_write_lock(settings):
        outcomes = (ledger.record_outcome(f"cancellation-{n}", outcome()) for n in range(8))
        results = await asyncio.gather(*outcomes, return_exceptions=True)
        assert all(isinstance(each, OutcomeUnrecorded) for each in results)
        with pytest.raises(LedgerUnavailable) as refused:
            await ledger.commit_intent(intent("9"))
    assert "too many earlier records" in refused.value.detail
    await until_ready(ledger)
    assert {each.phase for each in read_cancellations(settings.location)} == {Phase.REQUESTED}


async def test_close_logs_an_outcome_that_is_lost(settings: LedgerSettings) -> None:
    """The next start finds the cancellation pending."""
    ledger, _ = faulty_ledger(settings)
    await ledger.commit_intent(intent())
    with hold_write_lock(settings), capture_logs() as logs:
        with pytest.raises(OutcomeUnrecorded):
            await ledger.record_outcome("cancellation-1", outcome())
        await ledger.close()
    assert {"event": "ledger.outcome_lost", "log_level": "error", "cancellation_id": "cancellation-1"} in logs
    assert read_cancellations(settings.location)[0].phase is Phase.OUTCOME_UNKNOWN


async def test_a_write_to_a_full_queue_fails_at_once(ledger: SqlLedger, faults: Faults) -> None:
    faults.release.clear()
    first = asyncio.create_task(ledger.commit_intent(intent("first")))
    await wait_until_held(faults)
    waiting = [asyncio.create_task(ledger.commit_intent(intent(str(n)))) for n in range(8)]
    await asyncio.sleep(0)
    with pytest.raises(LedgerUnavailable) as raised:
        await ledger.commit_intent(intent("one too many"))
    assert "waiting already" in raised.value.detail
    faults.release.set()
    await asyncio.gather(first, *waiting, return_exceptions=True)


@ON_SQLITE
async def test_a_full_disk_fails_writes_until_there_is_space(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings
) -> None:
    """Nothing of a failed write stays in the ledger."""
    faults.pages = 60

    async def fill() -> None:
        for n in itertools.count():
            await ledger.commit_intent(intent(str(n)))

    async def fill_further() -> None:
        for each in read_cancellations(settings.location):
            await ledger.record_outcome(each.id, outcome())

    with pytest.raises(LedgerUnavailable) as raised:
        await fill()
    assert "free some space" in raised.value.detail
    with pytest.raises(OutcomeUnrecorded):
        await fill_further()
    assert verify(settings.location).broken is None
    faults.pages = 100_000
    await ledger.commit_intent(intent("after"))
    await until_ready(ledger)


@ON_SQLITE
async def test_writes_fail_while_the_file_is_removed(ledger: SqlLedger, settings: LedgerSettings) -> None:
    moved = file_of(settings).with_name("moved.db")
    file_of(settings).rename(moved)
    with pytest.raises(LedgerUnavailable) as raised:
        await ledger.commit_intent(intent())
    assert "removed or replaced" in raised.value.detail
    moved.rename(file_of(settings))
    await ledger.commit_intent(intent())


@ON_SQLITE
async def test_writes_fail_after_the_file_was_replaced_during_a_commit(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings
) -> None:
    """The file is not the gateway's own after the commit either."""
    moved = file_of(settings).with_name("moved.db")
    faults.release.clear()
    first = asyncio.create_task(ledger.commit_intent(intent("1")))
    await wait_until_held(faults)
    file_of(settings).rename(moved)
    shutil.copy(moved, file_of(settings))
    faults.release.set()
    with suppress(LedgerUnavailable):  # it may have taken too long
        await first
    for _ in range(2):
        with pytest.raises(LedgerUnavailable) as raised:
            await ledger.commit_intent(intent("2"))
        assert "removed or replaced" in raised.value.detail
    moved.rename(file_of(settings))


async def test_record_observation_fails_while_the_database_is_locked(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    await ledger.commit_intent(intent())
    with hold_write_lock(settings), pytest.raises(LedgerUnavailable):
        await ledger.record_observation(ref(), observation(update("Cancelling")))


async def test_observations_that_could_not_be_written_are_written_before_the_next(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """Each change of the update is in the chain once, in order."""
    await ledger.commit_intent(intent())
    with hold_write_lock(settings):
        for seconds, status in ((1, "Cancelling"), (2, "Cancelling"), (3, "Paused")):
            with pytest.raises(LedgerUnavailable):
                await ledger.record_observation(ref(), observation(update(status), seconds=seconds))
    known = await ledger.record_observation(ref(), observation(update("Cancelled"), seconds=4))
    assert (known.newest and known.newest.phase, known.pending) == (Phase.CANCELLED, False)
    assert list_observed_statuses(settings) == ["Cancelling", "Paused", "Cancelled"]
    await ledger.record_observation(ref(), observation(update("Cancelled"), seconds=5))
    assert len(list_observed_statuses(settings)) == 3


async def test_observations_that_were_written_too_late_are_not_written_again(
    ledger: SqlLedger, faults: Faults, settings: LedgerSettings
) -> None:
    """Their commits came after the deadline."""
    await ledger.commit_intent(intent())
    faults.release.clear()
    for seconds, status in ((1, "Cancelling"), (2, "Paused")):
        with pytest.raises(LedgerUnavailable):
            await ledger.record_observation(ref(), observation(update(status), seconds=seconds))
    faults.release.set()
    await wait_until(lambda: list_observed_statuses(settings) == ["Cancelling"])
    await ledger.record_observation(ref(), observation(update("Cancelled"), seconds=3))
    assert list_observed_statuses(settings) == ["Cancelling", "Paused", "Cancelled"]


async def test_an_observation_from_before_a_cancellation_is_not_recorded_for_it(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """The state was seen before the second cancel was made."""
    await ledger.commit_intent(intent("1"))
    with hold_write_lock(settings), pytest.raises(LedgerUnavailable):
        await ledger.record_observation(ref(), Observation(datetime.now(UTC), update("Cancelling")))
    await until_ready(ledger)
    await ledger.commit_intent(intent("2"))
    await ledger.record_observation(ref(), observation(update("Cancelled")))
    assert [each.kind for each in list_events(settings.location, "cancellation-1")] == [
        *("intent", "observation", "observation")
    ]
    assert [each.kind for each in list_events(settings.location, "cancellation-2")] == [
        *("intent", "observation")
    ]


def list_observed_statuses(settings: LedgerSettings) -> list[str]:
    found = [each for each in list_events(settings.location) if each.kind == "observation"]
    updates = [decode(Observation, each.body).update for each in found]
    return [each.status for each in updates if each]


async def test_denials_beyond_the_queue_are_counted_as_lost(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """Ten may wait. The ledger is not ready until the batch is written."""
    with hold_write_lock(settings):
        for n in range(25):
            ledger.record_denial(denial(str(n)))
        await until_not_ready(ledger)
    await wait_until(lambda: kinds(settings) == ["denials_lost"])
    await until_ready(ledger)
    assert [each.request_id for each in list_denials(settings.location)] == [
        f"request-{n}" for n in range(9, -1, -1)
    ]
    (lost,) = list_events(settings.location)
    assert decode(DenialsLost, lost.body) == DenialsLost(15)


async def test_not_ready_while_denials_cannot_be_written(settings: LedgerSettings) -> None:
    """The ledger stays not ready until the batch is written, also when the database is back."""
    clock = FakeClock()
    ledger, _ = faulty_ledger(settings, clock)
    with hold_write_lock(settings):
        ledger.record_denial(denial())
        await wait_until(lambda: clock.sleepers)
    with pytest.raises(LedgerUnavailable) as raised:
        await ledger.check()
    assert "decision log" in raised.value.detail
    await clock.advance(RETRY_S)
    await until_ready(ledger)
    assert len(list_denials(settings.location)) == 1
    await ledger.close()


async def test_huge_denials_are_bounded_by_size(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """A caller cannot fill the memory with denied cancels while the ledger is unavailable."""
    with hold_write_lock(settings):
        for n in range(5):
            ledger.record_denial(denial(str(n), policy_input={"reason": "x" * 15_000}))
    await ledger.close()
    assert len(list_denials(settings.location)) == 2
    assert decode(DenialsLost, list_events(settings.location)[0].body) == DenialsLost(3)


async def test_a_denial_without_json_is_counted_as_lost(ledger: SqlLedger, settings: LedgerSettings) -> None:
    ledger.record_denial(denial(policy_input={"raw": b"bytes"}))
    await ledger.close()
    assert decode(DenialsLost, list_events(settings.location)[0].body) == DenialsLost(1)


async def test_read_fails_at_its_deadline_and_when_too_many_wait(ledger: SqlLedger, faults: Faults) -> None:
    reader = QueryPool(ledger._database, limit=1)  # noqa: SLF001 (its file is locked: no other can be opened)
    faults.release.clear()
    with pytest.raises(StorageError, match="not read within"):
        await reader.read(lambda _: faults.release.wait(30), 0.05)
    with pytest.raises(StorageError, match="waiting already"):
        await reader.read(lambda _: None, 0.05)
    faults.release.set()
    await reader._threads.close()  # noqa: SLF001 (nothing else waits for its threads)
    reader.close()


async def test_calls_fail_after_close(settings: LedgerSettings) -> None:
    ledger, _ = faulty_ledger(settings)
    await ledger.close()
    with pytest.raises(LedgerUnavailable):
        await ledger.commit_intent(intent())
    with pytest.raises(LedgerUnavailable):
        await ledger.pending()
    ledger.record_denial(denial())


@ON_SQLITE
async def test_a_process_without_a_free_descriptor_still_records(settings: LedgerSettings) -> None:
    """Every connection is open from the start. One that failed is kept if no other can be opened."""
    command = (sys.executable, "-X", "faulthandler", str(STARVED), str(file_of(settings)))
    async with run_program(*command, env={"PYTHONPATH": str(STARVED.parent.parent)}) as running:
        assert (await running.end(), running.out) == (0, "200\n"), running.err
    assert "ledger.connection_kept" in running.err  # no other could be opened in its place
    assert running.err.count("ledger.write_refused") == 1  # the one that a trigger refuses
    assert "ledger.write_failed" not in running.err
    report = verify(settings.location)
    assert (report.broken, report.missing) == (None, "")
