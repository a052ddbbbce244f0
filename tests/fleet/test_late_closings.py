"""A replica that got no answer to a COMMIT closes its intent later. Meanwhile another one gets the request.

A cancel that may be on its way is never closed by that, so it is never sent twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from eksgateway.cancellation import result_of
from eksgateway.clock import SystemClock
from eksgateway.errors import DecisionStale, LedgerUnavailable, OutcomeUnrecorded, RequestIdReused
from eksgateway.joining import Joining
from eksgateway.ledger.cancellation_notices import CancellationNotices
from eksgateway.ledger.postgres.database import PostgresDatabase
from eksgateway.ledger.protocol import Recorded
from eksgateway.ledger.sql_ledger import SqlLedger
from eksgateway.ledger.verify import verify
from eksgateway.model import Intent, OutcomeKind, Phase
from eksgateway.settings import LedgerSettings
from support.clock import FakeClock
from support.ledger import execute, list_events, tamper
from support.lossy_database import LossyDatabase
from support.postgres import LedgerDatabase
from support.records import decision, intent, outcome
from support.waiting import wait_until

NOT_FORWARDED = outcome(OutcomeKind.NOT_FORWARDED)
FORWARD_S = 60.0


@dataclass
class Two:
    """The ledgers of two replicas. The ``database`` of the first one loses answers."""

    first: SqlLedger
    second: SqlLedger
    database: LossyDatabase
    settings: LedgerSettings

    async def look_up(self, name: str = "1") -> Recorded:
        """What the second replica finds."""
        found = await self.second.look_up(intent().caller.id, f"request-{name}")
        assert found is not None
        return found

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in list_events(self.settings.location)]

    async def wait_until_written(self) -> None:
        """Wait until the first replica owes nothing."""
        self.database.script.remove("down")
        await wait_until(lambda: not self.database.script)
        await self.wait_until_ready()

    async def wait_until_ready(self) -> None:
        async def is_ready() -> bool:
            try:
                await self.first.check()
            except LedgerUnavailable:
                return False
            return True

        while not await is_ready():
            pass


@pytest.fixture
async def two(ledger_database: LedgerDatabase) -> AsyncIterator[Two]:
    settings = LedgerSettings(url=ledger_database.url, commit_timeout_s=10)
    database = LossyDatabase(PostgresDatabase(settings))
    first = SqlLedger(settings, SystemClock(), database)
    second = SqlLedger(settings, SystemClock(), PostgresDatabase(settings))
    yield Two(first, second, database, settings)
    database.script.clear()
    await first.close()
    await second.close()
    assert verify(settings.location).broken is None


def renewed(name: str) -> Intent:
    return intent(decision=decision(name))


async def test_an_intent_that_is_to_be_closed_is_in_flight_for_others(two: Two) -> None:
    """Another replica waits for its closing, and sends nothing meanwhile. Then it may renew it."""
    two.database.script = ["committed", "down"]
    with pytest.raises(LedgerUnavailable):
        await two.first.commit_intent(intent(), FORWARD_S)
    found = await two.look_up()
    assert found.elsewhere
    assert FORWARD_S - 30 < found.in_flight_s <= FORWARD_S
    with pytest.raises(RequestIdReused):
        await two.second.commit_intent(intent("2", request_id="request-1"), FORWARD_S)
    with pytest.raises(DecisionStale):
        await two.second.renew_intent(renewed("2"), FORWARD_S)

    joining = asyncio.create_task(Joining(two.second, CancellationNotices(), SystemClock()).wait(found))
    await two.wait_until_written()
    with pytest.raises(LedgerUnavailable) as raised:
        result_of(await joining)
    assert raised.value.metadata == {"cancellation_id": "cancellation-1", "phase": "NOT_FORWARDED"}
    assert (await two.look_up()).in_flight_s == 0
    await two.second.renew_intent(renewed("2"), FORWARD_S)
    assert two.kinds == ["intent", "closed", "intent_renewed"]


async def test_a_closing_that_is_repeated_leaves_the_renewal_of_another_replica_open(two: Two) -> None:
    """The renewal may be on its way to EKS."""
    two.database.script = ["committed", "committed", "down"]
    with pytest.raises(LedgerUnavailable):
        await two.first.commit_intent(intent(), FORWARD_S)
    await wait_until(lambda: two.database.script == ["down"])
    assert two.kinds == ["intent", "closed"]
    await two.second.renew_intent(renewed("2"), FORWARD_S)
    await two.wait_until_written()
    assert two.kinds == ["intent", "closed", "intent_renewed"]
    seen = await two.first.look_up(intent().caller.id, "request-1")
    assert seen is not None
    assert seen.cancellation.outcome is None
    assert seen.in_flight_s > 0
    await two.second.record_outcome("cancellation-1", outcome())
    assert (await two.look_up()).cancellation.phase is Phase.REQUESTED


async def test_the_closing_of_a_lost_renewal_leaves_that_of_another_replica_open(two: Two) -> None:
    await two.first.commit_intent(intent(), FORWARD_S)
    await two.first.record_outcome("cancellation-1", NOT_FORWARDED)
    two.database.script = ["lost", "down"]
    with pytest.raises(LedgerUnavailable):
        await two.first.renew_intent(renewed("2"), FORWARD_S)
    assert (await two.look_up()).in_flight_s == 0
    await two.second.renew_intent(renewed("3"), FORWARD_S)
    await two.wait_until_written()
    assert two.kinds == ["intent", "outcome", "intent_renewed"]
    assert (await two.look_up()).cancellation.outcome is None


async def test_a_committed_renewal_without_an_answer_is_closed(two: Two) -> None:
    """Until then another replica cannot renew it."""
    await two.second.commit_intent(intent(), FORWARD_S)
    await two.second.record_outcome("cancellation-1", NOT_FORWARDED)
    two.database.script = ["committed", "down"]
    with pytest.raises(LedgerUnavailable):
        await two.first.renew_intent(renewed("2"), FORWARD_S)
    with pytest.raises(DecisionStale):
        await two.second.renew_intent(renewed("3"), FORWARD_S)
    assert (await two.look_up()).in_flight_s > 0
    await two.wait_until_written()
    assert two.kinds == ["intent", "outcome", "intent_renewed", "closed"]
    await two.second.renew_intent(renewed("3"), FORWARD_S)


async def test_the_closing_of_a_lost_intent_leaves_the_cancel_of_another_replica_alone(two: Two) -> None:
    two.database.script = ["lost", "down"]
    with pytest.raises(LedgerUnavailable):
        await two.first.commit_intent(intent(), FORWARD_S)
    await two.second.commit_intent(intent("2", request_id="request-1"), FORWARD_S)
    await two.wait_until_written()
    assert two.kinds == ["intent"]
    found = await two.look_up()
    assert (found.cancellation.id, found.cancellation.outcome) == ("cancellation-2", None)


async def test_an_outcome_without_an_answer_is_not_written_onto_a_later_renewal(two: Two) -> None:
    await two.first.commit_intent(intent(), FORWARD_S)
    two.database.script = ["committed", "down"]
    with pytest.raises(OutcomeUnrecorded):
        await two.first.record_outcome("cancellation-1", NOT_FORWARDED)
    await two.second.renew_intent(renewed("2"), FORWARD_S)
    await two.wait_until_written()
    assert two.kinds == ["intent", "outcome", "intent_renewed"]
    assert (await two.look_up()).cancellation.outcome is None


async def test_an_outcome_that_is_owed_ends_the_flight(two: Two) -> None:
    """Another replica waits for it."""
    await two.first.commit_intent(intent(), FORWARD_S)
    two.database.script = ["lost", "down"]
    with pytest.raises(OutcomeUnrecorded):
        await two.first.record_outcome("cancellation-1", outcome())
    assert (await two.look_up()).in_flight_s > 0
    await two.wait_until_written()
    found = await two.look_up()
    assert (found.cancellation.phase, found.in_flight_s) == (Phase.REQUESTED, 0)


async def test_a_forward_is_in_flight_for_other_replicas_only_and_only_for_its_time(two: Two) -> None:
    own = await two.first.commit_intent(intent(), FORWARD_S)
    found = await two.first.look_up(own.intent.caller.id, "request-1")
    assert found is not None
    assert (found.cancellation, found.elsewhere, found.in_flight_s) == (own, False, 0)
    await two.first.commit_intent(intent("2"), -1)
    found = await two.look_up("2")
    assert (found.elsewhere, found.in_flight_s) == (True, 0)
    pending = {each.cancellation.id: each.in_flight_s > 0 for each in await two.second.pending()}
    assert pending == {"cancellation-1": True, "cancellation-2": False}
    ids = await two.second.pending_ids()
    assert ids == {each.cancellation.id: each.latest for each in await two.first.read(ids)}


async def test_a_joiner_waits_on_for_a_renewal(two: Two) -> None:
    """The attempt that it joined has ended meanwhile, without a forward."""
    await two.first.commit_intent(intent(), 1)
    found, clock = await two.look_up(), FakeClock()
    await two.first.record_outcome("cancellation-1", NOT_FORWARDED)
    await two.first.renew_intent(renewed("2"), FORWARD_S)
    joining = asyncio.create_task(Joining(two.second, CancellationNotices(), clock).wait(found))
    await wait_until(lambda: clock.sleepers)
    await clock.advance(1)
    await wait_until(lambda: clock.sleepers or joining.done())
    assert not joining.done()
    await two.first.record_outcome("cancellation-1", outcome())
    await clock.advance(1)
    assert (await joining).phase is Phase.REQUESTED


async def test_a_joiner_of_a_record_that_is_lost_waits_until_it_is_unknown(two: Two) -> None:
    """As after a failover to a standby that lagged: the cancel may have been sent."""
    await two.first.commit_intent(intent(), FORWARD_S)
    found, clock = await two.look_up(), FakeClock()
    lost = execute(two.settings.location, "DELETE FROM cancellations RETURNING *")
    joining = asyncio.create_task(Joining(two.second, CancellationNotices(), clock).wait(found))
    await wait_until(lambda: clock.sleepers or joining.done())
    await clock.advance(FORWARD_S)
    assert (await joining).phase is Phase.OUTCOME_UNKNOWN
    tamper(two.settings.location, "DELETE FROM events")
    assert len(lost) == 1


async def test_a_forward_from_the_future_is_not_in_flight(two: Two) -> None:
    """The database's clock was set back. Else a replica that died would be waited for until that time."""
    await two.first.commit_intent(intent(), FORWARD_S)
    assert (await two.look_up()).in_flight_s > 0
    (event,) = list_events(two.settings.location)
    later = event.time.replace(event.time[:4], str(int(event.time[:4]) + 1))
    change = "UPDATE cancellations SET record = replace(record, '{}', '{}'), forward_before = '{}'"
    execute(two.settings.location, change.format(event.time, later, later))
    assert (await two.look_up()).in_flight_s == 0
    execute(two.settings.location, change.format(later, event.time, event.time))
