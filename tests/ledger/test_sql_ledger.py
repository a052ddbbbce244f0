"""The ledger on a real file, read over a second connection where that matters."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from eksgateway.clock import SystemClock
from eksgateway.errors import CancellationNotFound, DecisionStale, RequestIdReused, RequestInvalid
from eksgateway.ledger.codec import decode
from eksgateway.ledger.projection import DenialsLost
from eksgateway.ledger.protocol import HistoryFilter, Ledger, ReadScope
from eksgateway.ledger.sql_ledger import SqlLedger, open_ledger
from eksgateway.ledger.verify import verify
from eksgateway.model import CancelRequest, ClusterRef, OutcomeKind, Phase
from eksgateway.settings import LedgerSettings
from support.ledger import hold_write_lock, list_denials, list_events, read_cancellations
from support.logs import capture_logs
from support.records import (
    CLUSTER,
    at,
    caller,
    decision,
    denial,
    intent,
    observation,
    outcome,
    ref,
    update,
)


def kinds(settings: LedgerSettings) -> list[str]:
    return [event.kind for event in list_events(settings.location)]


def test_sql_ledger_implements_the_protocol(ledger: SqlLedger) -> None:
    """mypy checks the assignment."""
    promised: Ledger = ledger
    assert promised is ledger


async def test_commit_intent_returns_when_the_intent_is_durable(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """Another connection sees it at once."""
    cancellation = await ledger.commit_intent(intent())
    assert read_cancellations(settings.location) == (cancellation,)
    assert (cancellation.phase, cancellation.settled) == (Phase.OUTCOME_UNKNOWN, False)
    assert kinds(settings) == ["intent"]


async def test_commit_intent_accepts_one_of_ten_equal_request_ids(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """The other nine fail with RequestIdReused."""
    results = await asyncio.gather(
        *(ledger.commit_intent(intent(str(n), request_id="same")) for n in range(10)), return_exceptions=True
    )
    assert sum(isinstance(each, RequestIdReused) for each in results) == 9
    assert kinds(settings) == ["intent"]
    found = await ledger.find("jwt:corp:ann", "same")
    assert found in results


async def test_two_callers_may_use_one_request_id(ledger: SqlLedger) -> None:
    """A request_id is a caller's own."""
    mine = await ledger.commit_intent(intent("1", request_id="same"))
    yours = await ledger.commit_intent(intent("2", request_id="same", caller=caller("bob")))
    assert await ledger.find("jwt:corp:ann", "same") == mine
    assert await ledger.find("jwt:corp:bob", "same") == yours
    assert await ledger.find("jwt:corp:cid", "same") is None


async def test_ids_with_a_nul_are_not_found(ledger: SqlLedger) -> None:
    """PostgreSQL refuses such a text."""
    assert await ledger.get("cancellation-1\0") is None
    assert await ledger.find("jwt:corp:ann", "\0") is None


async def test_record_outcome_logs_the_head(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """The removal of newer events shows against it."""
    await ledger.commit_intent(intent())
    with capture_logs() as logs:
        recorded = await ledger.record_outcome("cancellation-1", outcome())
    assert (recorded.phase, recorded.forward_time) == (Phase.REQUESTED, at(1))
    assert await ledger.get("cancellation-1") == recorded
    head = verify(settings.location).head
    assert {"event": "ledger.head", "log_level": "info", "seq": head.seq, "hash": head.hash} in logs


async def test_record_outcome_without_an_intent_fails(ledger: SqlLedger) -> None:
    with pytest.raises(CancellationNotFound):
        await ledger.record_outcome("none", outcome())
    assert await ledger.get("none") is None


async def test_renew_intent_succeeds_once(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """The renewed intent keeps its token."""
    await ledger.commit_intent(intent())
    await ledger.record_outcome("cancellation-1", outcome(OutcomeKind.NOT_FORWARDED))
    results = await asyncio.gather(
        *(ledger.renew_intent(intent(decision=decision(str(n)), time=at(5))) for n in (2, 3)),
        return_exceptions=True,
    )
    renewed = await ledger.get("cancellation-1")
    assert renewed in results
    assert sum(isinstance(each, DecisionStale) for each in results) == 1
    assert renewed is not None
    assert (renewed.phase, renewed.outcome, renewed.intent.token) == (Phase.OUTCOME_UNKNOWN, None, "token-1")
    assert kinds(settings) == ["intent", "outcome", "intent_renewed"]


async def test_record_observation_changes_every_unsettled_cancellation_once(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """The update's end settles them."""
    await ledger.commit_intent(intent("1"))
    await ledger.commit_intent(intent("2"))
    await ledger.commit_intent(intent("3", request=CancelRequest(ref("u-2"))))
    await ledger.record_outcome("cancellation-1", outcome(OutcomeKind.NOT_FORWARDED))

    cancelling = observation(update("Cancelling"))
    known = await ledger.record_observation(ref(), cancelling)
    assert known.newest == await ledger.get("cancellation-2")
    assert (known.newest and known.newest.phase, known.pending) == (Phase.CANCELLING, True)
    assert len(kinds(settings)) == 5

    assert await ledger.record_observation(ref(), observation(update("Cancelling"), seconds=9)) == known
    assert len(kinds(settings)) == 5, "an unchanged observation appends no event"

    known = await ledger.record_observation(ref(), observation(update("Cancelled")))
    assert (known.newest and known.newest.phase, known.pending) == (Phase.CANCELLED, False)
    await ledger.record_observation(ref(), observation(update("Successful")))
    assert len(kinds(settings)) == 6, "settled cancellations get no events"
    assert [each.cancellation.id for each in await ledger.pending()] == ["cancellation-3"]


async def test_an_unchanged_observation_takes_no_write(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """It succeeds while another program holds the write lock."""
    await ledger.commit_intent(intent())
    await ledger.record_observation(ref(), observation(update("Cancelling")))
    with hold_write_lock(settings):
        known = await ledger.record_observation(ref(), observation(update("Cancelling")))
    assert known.pending


async def test_equal_observations_at_once_are_recorded_once(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    await ledger.commit_intent(intent())
    await asyncio.gather(
        *(ledger.record_observation(ref(), observation(update("Cancelling"))) for _ in range(10))
    )
    assert kinds(settings) == ["intent", "observation"]


async def test_an_observation_without_an_update_ends_following(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """The phase stays, and the note is its reason."""
    await ledger.commit_intent(intent())
    known = await ledger.record_observation(ref(), observation(None, note="EKS no longer knows it."))
    assert known.newest is not None
    assert (known.newest.phase, known.newest.phase_reason) == (
        Phase.OUTCOME_UNKNOWN,
        "EKS no longer knows it.",
    )
    assert (known.newest.settled, known.pending) == (True, False)
    assert await ledger.pending() == ()
    assert kinds(settings) == ["intent", "observation"]


async def test_record_observation_without_a_cancellation_records_nothing(ledger: SqlLedger) -> None:
    known = await ledger.record_observation(ref("other"), observation(update("Cancelled")))
    assert (known.newest, known.pending) == (None, False)


async def test_history_pages_by_cluster_caller_and_scope(ledger: SqlLedger) -> None:
    """Each page is newest first."""
    other = ClusterRef("111122223333", "us-east-1", "ledgers")
    for n in range(7):
        where = CancelRequest(ref(cluster=other if n % 3 == 0 else CLUSTER))
        who = caller("bob" if n % 2 else "ann")
        await ledger.commit_intent(intent(str(n), request=where, caller=who))

    async def pages(which: HistoryFilter, limit: int) -> list[list[str]]:
        found, before = [], ""
        while True:
            page = await ledger.history(which, limit, before)
            found.append([each.intent.request_id.removeprefix("request-") for each in page.cancellations])
            before = page.before
            if not before:
                return found

    assert await pages(HistoryFilter(), 3) == [["6", "5", "4"], ["3", "2", "1"], ["0"]]
    assert await pages(HistoryFilter(), 7) == [["6", "5", "4", "3", "2", "1", "0"]]
    assert await pages(HistoryFilter(cluster=other), 2) == [["6", "3"], ["0"]]
    assert await pages(HistoryFilter(caller_id="jwt:corp:bob"), 2) == [["5", "3"], ["1"]]
    assert await pages(HistoryFilter(other, "jwt:corp:bob"), 2) == [["3"]]
    assert await pages(HistoryFilter(caller_id="jwt:corp:nobody"), 2) == [[]]
    for clusters, expected in (
        ((), [["5", "3"], ["1"]]),
        ((other,), [["6", "5"], ["3", "1"], ["0"]]),
        ((other, CLUSTER), [["6", "5"], ["4", "3"], ["2", "1"], ["0"]]),
        ((replace(other, region="eu-west-1"),), [["5", "3"], ["1"]]),
    ):
        assert await pages(HistoryFilter(scope=ReadScope("jwt:corp:bob", clusters)), 2) == expected
    assert await pages(HistoryFilter(other, "jwt:corp:ann", ReadScope("jwt:corp:nobody", ())), 2) == [[]]
    assert set(await ledger.clusters("")) == {other, CLUSTER}
    assert set(await ledger.clusters("jwt:corp:bob")) == {other, CLUSTER}
    assert await ledger.clusters("jwt:corp:nobody") == ()


@pytest.mark.parametrize("before", ["x", "-1", "1 OR 1=1", "٣", "9" * 30])
async def test_history_refuses_an_invalid_page_token(ledger: SqlLedger, before: str) -> None:
    with pytest.raises(RequestInvalid):
        await ledger.history(HistoryFilter(), 1, before)


async def test_writes_at_once_are_all_recorded_in_order(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """Sixty-four tasks write at once."""

    async def work(n: int) -> None:
        for step in range(3):
            name = f"{n}-{step}"
            await ledger.commit_intent(intent(name))
            await ledger.record_outcome(f"cancellation-{name}", outcome())
            with pytest.raises(RequestIdReused):
                await ledger.commit_intent(intent(f"{name}-again", request_id=f"request-{name}"))

    await asyncio.gather(*(work(n) for n in range(64)))
    report = verify(settings.location)
    assert (report.broken, report.events, report.cancellations) == (None, 384, 192)


async def test_a_full_denial_log_drops_the_oldest_and_records_how_many(settings: LedgerSettings) -> None:
    """A tenth more may stay, so that the chain does not grow instead."""
    ledger = await open_ledger(settings.model_copy(update={"keep_denials": 20}), SystemClock())
    sent = [denial(str(n)) for n in range(100)]
    for each in sent:
        ledger.record_denial(each)
        await asyncio.sleep(0)
    await ledger.close()
    kept = list_denials(settings.location)
    assert 20 <= len(kept) <= 22
    assert kept == sent[: -len(kept) - 1 : -1]
    lost = [decode(DenialsLost, event.body) for event in list_events(settings.location)]
    assert sum(each.count for each in lost) == 100 - len(kept)
    assert {each.full for each in lost} == {True}
    assert verify(settings.location).broken is None


async def test_close_writes_the_queued_denials(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """They are written unchanged and in order."""
    sent = [denial(str(n)) for n in range(1200)]
    for each in sent:
        ledger.record_denial(each)
    await ledger.close()
    assert list_denials(settings.location) == sent[::-1]
    assert kinds(settings) == []


async def test_pending_is_the_same_after_a_restart(settings: LedgerSettings) -> None:
    """Cancellations that are not settled are listed oldest first."""
    before = await open_ledger(settings, SystemClock())
    for name in "123":
        await before.commit_intent(intent(name))
    await before.record_outcome("cancellation-2", outcome(OutcomeKind.NOT_FORWARDED))
    expected = await before.pending()
    await before.close()

    after = await open_ledger(settings, SystemClock())
    found = await after.pending()
    assert [(each.cancellation, each.latest) for each in found] == [
        (each.cancellation, each.latest) for each in expected
    ]
    assert [each.cancellation.id for each in expected] == ["cancellation-1", "cancellation-3"]
    await after.record_outcome("cancellation-1", outcome())
    await after.close()
    assert verify(settings.location).broken is None


async def test_commit_intent_of_a_cancelled_task_is_closed(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    """The task is cancelled while it waits; its intent may be committed all the same."""
    for n in range(20):
        task = asyncio.create_task(ledger.commit_intent(intent(str(n))))
        for _ in range(n % 5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})

    await ledger.close()
    found = read_cancellations(settings.location)
    assert {each.phase for each in found} <= {Phase.NOT_FORWARDED}
    assert verify(settings.location).broken is None


async def test_record_outcome_of_a_cancelled_task_is_written(
    ledger: SqlLedger, settings: LedgerSettings
) -> None:
    await ledger.commit_intent(intent())
    task = asyncio.create_task(ledger.record_outcome("cancellation-1", outcome()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await ledger.close()
    (found,) = read_cancellations(settings.location)
    assert found.phase is Phase.REQUESTED
    assert kinds(settings) == ["intent", "outcome"]


async def test_close_twice_does_nothing(ledger: SqlLedger) -> None:
    await ledger.close()
    await ledger.close()
