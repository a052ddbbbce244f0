"""The ledger's promises on a real file, each looked at over a second connection where it matters."""

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
from support.ledger import list_denials, list_events, locked, read_cancellations
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
    return [event.kind for event in list_events(settings.path)]


def test_it_is_a_ledger(ledger: SqlLedger) -> None:
    """The class has what the protocol asks for (mypy holds it to that)."""
    promised: Ledger = ledger
    assert promised is ledger


async def test_durable_when_told(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """The moment commit_intent returns, another connection sees the intent."""
    cancellation = await ledger.commit_intent(intent())
    assert read_cancellations(settings.path) == (cancellation,)
    assert (cancellation.phase, cancellation.settled) == (Phase.OUTCOME_UNKNOWN, False)
    assert kinds(settings) == ["intent"]


async def test_one_of_ten(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """Ten intents at once for one caller's request_id: one is written, nine are told so."""
    told = await asyncio.gather(
        *(ledger.commit_intent(intent(str(n), request_id="same")) for n in range(10)), return_exceptions=True
    )
    assert sum(isinstance(each, RequestIdReused) for each in told) == 9
    assert kinds(settings) == ["intent"]
    found = await ledger.find("jwt:corp:ann", "same")
    assert found in told


async def test_two_callers_may_use_one_request_id(ledger: SqlLedger) -> None:
    """A request_id is a caller's own."""
    mine = await ledger.commit_intent(intent("1", request_id="same"))
    yours = await ledger.commit_intent(intent("2", request_id="same", caller=caller("bob")))
    assert await ledger.find("jwt:corp:ann", "same") == mine
    assert await ledger.find("jwt:corp:bob", "same") == yours
    assert await ledger.find("jwt:corp:cid", "same") is None


async def test_outcome_is_recorded_and_the_head_logged(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """Each outcome leaves the chain's head in the log, so that cutting the tail off shows."""
    await ledger.commit_intent(intent())
    with capture_logs() as logs:
        told = await ledger.record_outcome("cancellation-1", outcome())
    assert (told.phase, told.forward_time) == (Phase.REQUESTED, at(1))
    assert await ledger.get("cancellation-1") == told
    head = verify(settings.path).head
    assert {"event": "ledger.head", "log_level": "info", "seq": head.seq, "hash": head.hash} in logs


async def test_outcome_of_nothing(ledger: SqlLedger) -> None:
    """An outcome without an intent is an error, and writes nothing."""
    with pytest.raises(CancellationNotFound):
        await ledger.record_outcome("none", outcome())
    assert await ledger.get("none") is None


async def test_renewal(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """What was not forwarded can be decided anew, once; the token stays."""
    await ledger.commit_intent(intent())
    await ledger.record_outcome("cancellation-1", outcome(OutcomeKind.NOT_FORWARDED))
    told = await asyncio.gather(
        *(ledger.renew_intent(intent(decision=decision(str(n)), time=at(5))) for n in (2, 3)),
        return_exceptions=True,
    )
    renewed = await ledger.get("cancellation-1")
    assert renewed in told
    assert sum(isinstance(each, DecisionStale) for each in told) == 1
    assert renewed is not None
    assert (renewed.phase, renewed.outcome, renewed.intent.token) == (Phase.OUTCOME_UNKNOWN, None, "token-1")
    assert kinds(settings) == ["intent", "outcome", "intent_renewed"]


async def test_observations(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """An observation reaches every unsettled cancellation of its update, once; the end settles them."""
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
    assert len(kinds(settings)) == 5, "what changes nothing appends nothing"

    known = await ledger.record_observation(ref(), observation(update("Cancelled")))
    assert (known.newest and known.newest.phase, known.pending) == (Phase.CANCELLED, False)
    await ledger.record_observation(ref(), observation(update("Successful")))
    assert len(kinds(settings)) == 6, "what is settled is not observed any more"
    assert [each.id for each in await ledger.pending()] == ["cancellation-3"]


async def test_an_unchanged_observation_takes_no_write(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """It is answered while somebody else holds the write lock."""
    await ledger.commit_intent(intent())
    await ledger.record_observation(ref(), observation(update("Cancelling")))
    with locked(settings):
        known = await ledger.record_observation(ref(), observation(update("Cancelling")))
    assert known.pending


async def test_the_same_observation_at_once(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """Two who look at the same moment see one change: it is written once."""
    await ledger.commit_intent(intent())
    await asyncio.gather(
        *(ledger.record_observation(ref(), observation(update("Cancelling"))) for _ in range(10))
    )
    assert kinds(settings) == ["intent", "observation"]


async def test_following_ended(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """Without an update the phase stays, the note is its reason, and nothing is followed any more."""
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


async def test_observing_what_nobody_cancelled(ledger: SqlLedger) -> None:
    """An update without a cancellation is nothing to the ledger."""
    known = await ledger.record_observation(ref("other"), observation(update("Cancelled")))
    assert (known.newest, known.pending) == (None, False)


async def test_history(ledger: SqlLedger) -> None:
    """Newest first, page by page, by cluster and by caller."""
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
    assert await pages(HistoryFilter(caller_id="nobody"), 2) == [[]]
    for clusters, expected in (
        ((), [["5", "3"], ["1"]]),
        ((other,), [["6", "5"], ["3", "1"], ["0"]]),
        ((other, CLUSTER), [["6", "5"], ["4", "3"], ["2", "1"], ["0"]]),
        ((replace(other, region="eu-west-1"),), [["5", "3"], ["1"]]),
    ):
        assert await pages(HistoryFilter(scope=ReadScope("jwt:corp:bob", clusters)), 2) == expected
    assert await pages(HistoryFilter(other, "jwt:corp:ann", ReadScope("nobody", ())), 2) == [[]]
    assert set(await ledger.clusters("")) == {other, CLUSTER}
    assert set(await ledger.clusters("jwt:corp:bob")) == {other, CLUSTER}
    assert await ledger.clusters("nobody") == ()


@pytest.mark.parametrize("before", ["x", "-1", "1 OR 1=1", "٣", "9" * 30])
async def test_a_place_in_history_that_nobody_gave(ledger: SqlLedger, before: str) -> None:
    """It is the caller's mistake, and told as such."""
    with pytest.raises(RequestInvalid):
        await ledger.history(HistoryFilter(), 1, before)


async def test_group_commit(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """Sixty-four writers at once: each one's events are there, in its order, and the chain holds."""

    async def work(n: int) -> None:
        for step in range(3):
            name = f"{n}-{step}"
            await ledger.commit_intent(intent(name))
            await ledger.record_outcome(f"cancellation-{name}", outcome())
            with pytest.raises(RequestIdReused):
                await ledger.commit_intent(intent(f"{name}-again", request_id=f"request-{name}"))

    await asyncio.gather(*(work(n) for n in range(64)))
    report = verify(settings.path)
    assert (report.broken, report.events, report.cancellations) == (None, 384, 192)


async def test_a_full_decision_log_drops_the_oldest_and_says_how_many(settings: LedgerSettings) -> None:
    """Bounded, whatever strangers try; a tenth more may stay, so that the chain does not grow instead."""
    ledger = await open_ledger(settings.model_copy(update={"keep_denials": 20}), SystemClock())
    sent = [denial(str(n)) for n in range(100)]
    for each in sent:
        ledger.record_denial(each)
        await asyncio.sleep(0)
    await ledger.close()
    kept = list_denials(settings.path)
    assert 20 <= len(kept) <= 22
    assert kept == sent[: -len(kept) - 1 : -1]
    lost = [decode(DenialsLost, event.body) for event in list_events(settings.path)]
    assert sum(each.count for each in lost) == 100 - len(kept)
    assert {each.full for each in lost} == {True}
    assert verify(settings.path).broken is None


async def test_denials(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """Denied cancels are written soon after, whole, and in order."""
    sent = [denial(str(n)) for n in range(1200)]
    for each in sent:
        ledger.record_denial(each)
    await ledger.close()
    assert list_denials(settings.path) == sent[::-1]
    assert kinds(settings) == []


async def test_a_restart_gives_what_is_pending(settings: LedgerSettings) -> None:
    """What is not settled is there again after a restart, oldest first, and goes on."""
    before = await open_ledger(settings, SystemClock())
    for name in "123":
        await before.commit_intent(intent(name))
    await before.record_outcome("cancellation-2", outcome(OutcomeKind.NOT_FORWARDED))
    expected = await before.pending()
    await before.close()

    after = await open_ledger(settings, SystemClock())
    assert await after.pending() == expected
    assert [each.id for each in expected] == ["cancellation-1", "cancellation-3"]
    await after.record_outcome("cancellation-1", outcome())
    await after.close()
    assert verify(settings.path).broken is None


async def test_a_cancelled_caller_leaves_nothing_open(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """A task cancelled while it waits: an intent that is committed all the same is closed."""
    for n in range(20):
        task = asyncio.create_task(ledger.commit_intent(intent(str(n))))
        for _ in range(n % 5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})

    await ledger.close()
    found = read_cancellations(settings.path)
    assert {each.phase for each in found} <= {Phase.NOT_FORWARDED}
    assert verify(settings.path).broken is None


async def test_an_outcome_of_a_cancelled_caller_is_kept(ledger: SqlLedger, settings: LedgerSettings) -> None:
    """What EKS said is written whoever has gone."""
    await ledger.commit_intent(intent())
    task = asyncio.create_task(ledger.record_outcome("cancellation-1", outcome()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await ledger.close()
    (found,) = read_cancellations(settings.path)
    assert found.phase is Phase.REQUESTED
    assert kinds(settings) == ["intent", "outcome"]


async def test_closed_twice(ledger: SqlLedger) -> None:
    """Closing a second time does nothing."""
    await ledger.close()
    await ledger.close()
