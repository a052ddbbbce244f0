"""The writer's transactions in PostgreSQL: their round trips, and what becomes of them when it fails."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import psycopg
import pytest

from eksgateway.clock import SystemClock
from eksgateway.errors import LedgerUnavailable, OutcomeUnrecorded
from eksgateway.ledger import store
from eksgateway.ledger.database import CommitUnknown
from eksgateway.ledger.postgres.database import PostgresDatabase
from eksgateway.ledger.sql_ledger import SqlLedger, open_ledger
from eksgateway.ledger.unit_of_work import ReadKeys, request_key
from eksgateway.ledger.verify import verify
from eksgateway.model import Phase
from eksgateway.sandbox.postgres_server import PostgresServer
from eksgateway.settings import LedgerSettings
from support.clock import FakeClock
from support.ledger import execute, list_denials, list_events, read_cancellations, tamper
from support.logs import capture_logs
from support.postgres import LedgerDatabase, create_ledger, create_roles
from support.postgres_wire import PostgresWire
from support.records import denial, intent, observation, outcome, ref, update
from support.waiting import wait_until


@pytest.fixture
def settings(ledger_database: LedgerDatabase) -> LedgerSettings:
    return LedgerSettings(url=ledger_database.url, commit_timeout_s=5)


@pytest.fixture
async def wire(settings: LedgerSettings) -> AsyncIterator[PostgresWire]:
    async with PostgresWire(settings.url or "") as wire:
        yield wire


@pytest.fixture
async def far(settings: LedgerSettings, wire: PostgresWire) -> AsyncIterator[SqlLedger]:
    """A ledger whose connections lead through the proxy; it must be sound at the end."""
    opened = await open_ledger(settings.model_copy(update={"url": wire.url}), SystemClock())
    yield opened
    await opened.close()
    assert verify(settings.location).broken is None


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer(18, settings={"synchronous_commit": "local"}) as server:
        create_roles(server.start().url())
        yield server


def kinds(settings: LedgerSettings) -> list[str]:
    return [each.kind for each in list_events(settings.location)]


# -- Round trips --------------------------------------------------------------------------------


async def write_batch(settings: LedgerSettings, wire: PostgresWire, size: int) -> int:
    """The round trips of a batch that adds as many cancellations as it changes."""
    database = await asyncio.to_thread(PostgresDatabase, settings.model_copy(update={"url": wire.url}))
    intents = [intent(str(n)) for n in range(2 * size)]
    ids = [each.cancellation_id for each in intents]
    keys = ReadKeys(ids, [request_key(each) for each in intents], [ref()], ids, denials=True)

    def write(added: int) -> None:
        with database.begin_batch(keys) as unit:
            for each in intents[added : added + size]:
                store.add_intent(unit, each)
            for each in intents[:added]:
                store.add_outcome(unit, each.cancellation_id, outcome())
            store.add_denials(unit, ["{}"] * size, 1)

    await asyncio.to_thread(write, 0)
    before = wire.trips
    await asyncio.to_thread(write, size)
    after = wire.trips
    await asyncio.to_thread(database.close)
    return after - before


@pytest.mark.parametrize("size", [1, 30])
async def test_a_batch_takes_two_round_trips_whatever_its_size(
    settings: LedgerSettings, wire: PostgresWire, size: int
) -> None:
    assert await write_batch(settings, wire, size) == 2


async def test_a_cancel_takes_two_round_trips_a_record_and_one_a_read(
    far: SqlLedger, wire: PostgresWire
) -> None:
    """Each read is a single statement, and none is made to see whether the connection lives."""
    await far.commit_intent(intent("first"))
    for expected, call in (
        (2, far.commit_intent(intent())),
        (2, far.record_outcome("cancellation-1", outcome())),
        (1, far.find("jwt:corp:ann", "request-1")),
        (3, far.record_observation(ref(), observation(update("Cancelling")))),
        (1, far.record_observation(ref(), observation(update("Cancelling"), seconds=9))),
        (1, far.check()),
    ):
        before = wire.trips
        await call
        assert wire.trips - before == expected


async def test_a_transaction_leaves_nothing_in_its_session(settings: LedgerSettings) -> None:
    """A pooler gives each transaction another session."""
    database = PostgresDatabase(settings)
    keys = ReadKeys(["cancellation-1"], [request_key(intent())])
    with database.begin_batch(keys) as unit:
        store.add_intent(unit, intent())
    connection = database._chain._connection._connect()  # noqa: SLF001 (its session is what counts)
    (left,) = connection.execute(
        """SELECT (SELECT count(*) FROM pg_prepared_statements)
            + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')
            + (SELECT count(*) FROM pg_settings WHERE source = 'session' AND name <> 'client_encoding')"""
    ).fetchall()
    assert left == (0,)
    database.close()


def test_a_process_without_a_free_descriptor_still_records(settings: LedgerSettings) -> None:
    """The connections are open from the start. Their waits have no deadline meanwhile."""
    database = PostgresDatabase(settings)

    def write(name: str) -> None:
        mine = intent(name)
        with database.begin_batch(ReadKeys([mine.cancellation_id], [request_key(mine)])) as unit:
            store.add_intent(unit, mine)

    write("1")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        write("2")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    database.close()
    assert kinds(settings) == ["intent", "intent"]


async def test_events_have_the_time_of_the_database(settings: LedgerSettings) -> None:
    """The clocks of replicas order nothing."""
    ledger = await open_ledger(settings, FakeClock())
    await ledger.commit_intent(intent())
    await ledger.close()
    (event,) = list_events(settings.location)
    ((now,),) = execute(settings.location, "SELECT clock_timestamp() AT TIME ZONE 'UTC'")
    age = now.replace(tzinfo=UTC) - datetime.fromisoformat(event.time)
    assert timedelta() <= age < timedelta(minutes=5)


async def test_close_leaves_no_connection(settings: LedgerSettings) -> None:
    ledger = await open_ledger(settings, SystemClock())
    await asyncio.gather(*(ledger.commit_intent(intent(str(n))) for n in range(9)))
    await asyncio.gather(*(ledger.pending() for _ in range(9)))
    await ledger.close()
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'eksgateway' AND datname = current_database()"
    )
    await wait_until(lambda: execute(settings.location, count) == [(0,)])


# -- A COMMIT without an answer -----------------------------------------------------------------


@pytest.mark.parametrize(("cut", "expected"), [("before", []), ("after", ["intent", "closed"])])
async def test_an_intent_whose_commit_is_unknown_is_closed(
    far: SqlLedger,
    wire: PostgresWire,
    settings: LedgerSettings,
    cut: Literal["before", "after"],
    expected: list[str],
) -> None:
    """Its caller gets LEDGER_UNAVAILABLE, so it must not stay open."""
    wire.cut = cut
    with pytest.raises(LedgerUnavailable):
        await far.commit_intent(intent())
    await wait_until(lambda: far._backlog.waiting == 0)  # noqa: SLF001 (an empty ledger shows no end)
    assert kinds(settings) == expected
    assert all(each.phase is Phase.NOT_FORWARDED for each in read_cancellations(settings.location))


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_an_outcome_whose_commit_is_unknown_is_recorded_once(
    far: SqlLedger, wire: PostgresWire, settings: LedgerSettings, cut: Literal["before", "after"]
) -> None:
    await far.commit_intent(intent())
    wire.cut = cut
    with pytest.raises(OutcomeUnrecorded):
        await far.record_outcome("cancellation-1", outcome())
    await wait_until(lambda: far._backlog.waiting == 0)  # noqa: SLF001 (a second one may come until then)
    assert kinds(settings) == ["intent", "outcome"]


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_denials_whose_commit_is_unknown_are_recorded_once(
    far: SqlLedger, wire: PostgresWire, settings: LedgerSettings, cut: Literal["before", "after"]
) -> None:
    """Also if there are more when the batch is tried again."""
    wire.cut = cut
    far.record_denial(denial("1"))
    await wait_until(lambda: far._denials.failing)  # noqa: SLF001 (nothing else shows it)
    far.record_denial(denial("2"))
    await wait_until(lambda: not far._denials._waiting)  # noqa: SLF001
    assert list_denials(settings.location) == [denial("2"), denial("1")]


async def test_a_batch_whose_commit_is_unknown_is_not_tried_again(
    far: SqlLedger, wire: PostgresWire, settings: LedgerSettings
) -> None:
    """Its parts would be written twice."""
    wire.cut = "after"
    results = await asyncio.gather(
        *(far.commit_intent(intent(str(n))) for n in range(20)), return_exceptions=True
    )
    assert any(isinstance(each, LedgerUnavailable) for each in results)
    await wait_until(lambda: far._backlog.waiting == 0)  # noqa: SLF001
    failed = sum(isinstance(each, LedgerUnavailable) for each in results)
    assert sorted(kinds(settings)) == ["closed"] * failed + ["intent"] * 20


@pytest.mark.parametrize("level", ["notice", "error"])
async def test_a_commit_that_gave_up_waiting_for_its_standby_is_unknown(
    server: PostgresServer, level: str
) -> None:
    """PostgreSQL answers COMMIT with a warning then: a failover would lose it."""
    with create_ledger(server.url()) as made:
        with psycopg.connect(server.url(), autocommit=True) as other:  # itself, it waits for no standby
            other.execute("ALTER SYSTEM SET synchronous_standby_names = 'missing'")
            other.execute(f"ALTER ROLE eksgateway SET client_min_messages = '{level}'")
            other.execute("SELECT pg_reload_conf()")
        settings = LedgerSettings(url=made.url)
        database = PostgresDatabase(settings)

        def write() -> None:
            with database.begin_batch(ReadKeys(["cancellation-1"], [request_key(intent())])) as unit:
                store.add_intent(unit, intent())

        writing = asyncio.create_task(asyncio.to_thread(write))
        cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        await wait_until(lambda: execute(settings.location, cancel) == [(True,)])
        with pytest.raises(CommitUnknown, match="standby"):
            await writing
        database.close()


# -- A lost connection --------------------------------------------------------------------------


async def test_a_restart_between_batches_fails_no_call(server: PostgresServer) -> None:
    """The first write and the first read connect anew."""
    with create_ledger(server.url()) as made:
        ledger = await open_ledger(LedgerSettings(url=made.url), SystemClock())
        await ledger.commit_intent(intent("1"))
        await asyncio.gather(*(ledger.pending() for _ in range(4)))
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        await asyncio.gather(*(ledger.pending() for _ in range(4)))
        await ledger.commit_intent(intent("2"))
        await ledger.record_outcome("cancellation-1", outcome())
        await ledger.close()


async def test_a_stopped_server_fails_calls_at_once_until_it_is_back(server: PostgresServer) -> None:
    with create_ledger(server.url()) as made:
        ledger = await open_ledger(LedgerSettings(url=made.url, commit_timeout_s=30), SystemClock())
        await ledger.commit_intent(intent("1"))
        await asyncio.to_thread(server.stop)
        began = asyncio.get_running_loop().time()
        for call in (ledger.commit_intent(intent("2")), ledger.pending(), ledger.check()):
            with pytest.raises(LedgerUnavailable) as refused:
                await call
            assert "see that PostgreSQL runs" in refused.value.detail
        assert asyncio.get_running_loop().time() - began < 10
        await asyncio.to_thread(server.start)
        await ledger.commit_intent(intent("3"))
        await ledger.close()


async def test_a_silent_network_fails_calls_at_their_deadline(
    wire: PostgresWire, settings: LedgerSettings
) -> None:
    """Twice that later the sockets are shut, and other connections are made."""
    near = settings.model_copy(update={"url": wire.url, "commit_timeout_s": 1})
    ledger = await open_ledger(near, SystemClock())
    await ledger.commit_intent(intent("1"))
    await ledger.pending()
    wire.passing.clear()
    began = asyncio.get_running_loop().time()
    calls = (ledger.commit_intent(intent("2")), *(ledger.pending() for _ in range(8)))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in results} == {LedgerUnavailable}
    await wait_until(lambda: not ledger._database._deadlines._waits)  # type: ignore[attr-defined]  # noqa: SLF001
    assert asyncio.get_running_loop().time() - began < 10
    wire.passing.set()
    await wait_until_written(ledger)
    await ledger.close()
    assert verify(settings.location).broken is None


async def wait_until_written(ledger: SqlLedger) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await ledger.commit_intent(intent("3"))
            except LedgerUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


# -- A chain that went back ---------------------------------------------------------------------

CUT = (
    "DELETE FROM events WHERE cancellation_id = 'cancellation-2'",
    "DELETE FROM cancellations WHERE cancellation_id = 'cancellation-2'",
)


@pytest.mark.parametrize("notices", ["the writer", "the check"])
async def test_a_ledger_that_went_back_is_not_used_again(settings: LedgerSettings, notices: str) -> None:
    """As after a restore, or a failover to a standby that lagged. The log has both heads."""
    ledger = await open_ledger(settings, SystemClock())
    await ledger.commit_intent(intent("1"))
    await ledger.commit_intent(intent("2"))
    first, second = (each.checkpoint for each in list_events(settings.location))
    tamper(settings.location, *CUT)
    with capture_logs() as logs, pytest.raises(LedgerUnavailable) as refused:
        await (ledger.check() if notices == "the check" else ledger.commit_intent(intent("3")))
    assert "gone back" in refused.value.detail
    (logged,) = [each for each in logs if each["event"] == "ledger.went_back"]
    assert (logged["known"], logged["found"]) == (str(second), str(first))
    for call in (ledger.commit_intent(intent("4")), ledger.pending(), ledger.check()):
        with pytest.raises(LedgerUnavailable):
            await call
    await ledger.close()
    assert kinds(settings) == ["intent"]
    after = await open_ledger(settings, SystemClock())
    await after.commit_intent(intent("5"))
    await after.close()


async def test_a_replica_knows_the_events_of_the_others(settings: LedgerSettings) -> None:
    """It has read the newest one with its own batch, or with a check."""
    ledger, other = [await open_ledger(settings, SystemClock()) for _ in range(2)]
    await ledger.commit_intent(intent("1"))
    await other.commit_intent(intent("2"))
    await ledger.check()
    tamper(settings.location, *CUT)
    with pytest.raises(LedgerUnavailable, match="reached"):
        await ledger.commit_intent(intent("3"))
    await ledger.close()
    await other.close()


async def test_a_rewritten_event_is_noticed(settings: LedgerSettings) -> None:
    """Another event with the same number."""
    ledger = await open_ledger(settings, SystemClock())
    await ledger.commit_intent(intent("1"))
    tamper(settings.location, "UPDATE events SET hash = replace(hash, substr(hash, 1, 1), 'g')")
    with pytest.raises(LedgerUnavailable) as refused:
        await ledger.check()
    assert "gone back" in refused.value.detail
    await ledger.close()
