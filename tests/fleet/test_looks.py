"""Looks that several replicas share over a real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import psycopg
import pytest

from eksgateway.clock import SystemClock
from eksgateway.eks.shared_reads import SeenUpdate
from eksgateway.errors import EksNotFound, EksThrottled, EksUnavailable
from eksgateway.model import ClusterRef, UpdateRef
from support.fleet_reads import CountingEks, ReadingReplica, run_replicas
from support.logs import capture_logs
from support.postgres import LedgerDatabase
from support.waiting import wait_until

CLUSTER = ClusterRef("111122223333", "us-east-1", "prod")
REF = UpdateRef(CLUSTER, "update-1")
WHO = "jwt:test:ann"


@pytest.fixture
def eks() -> CountingEks:
    return CountingEks()


@pytest.fixture
async def replicas(ledger_database: LedgerDatabase, eks: CountingEks) -> AsyncIterator[list[ReadingReplica]]:
    async with run_replicas(ledger_database.url, eks) as replicas:
        yield replicas


async def read(replica: ReadingReplica, max_age: float = 30) -> SeenUpdate:
    return await replica.reads.update(REF, max_age, WHO)


async def set_looks(database: LedgerDatabase, assignments: str) -> None:
    async with await psycopg.AsyncConnection.connect(database.owner_url, autocommit=True) as connection:
        await connection.execute("UPDATE eksgateway.looks SET " + assignments)


async def test_replicas_that_read_at_once_make_one_call(
    replicas: list[ReadingReplica], eks: CountingEks
) -> None:
    for _ in range(5):
        eks.calls.clear()
        seen = await asyncio.gather(*(each.reads.poll(REF, 0.001) for each in replicas for _ in range(10)))
        assert len({each.observe_time for each in seen}) <= len(eks.calls)
        assert eks.most_at_once == 1
    assert sum(each.counts.looks["shared"] for each in replicas) > 0


async def test_later_read_of_another_replica_uses_the_look(
    replicas: list[ReadingReplica], eks: CountingEks
) -> None:
    first = await read(replicas[0])
    second = await read(replicas[1])
    assert len(eks.calls) == 1
    assert (second.update, second.observe_time) == (first.update, first.observe_time)
    assert (first.mine, second.mine) == (True, False)
    assert first.changed == pytest.approx(first.began, abs=0.5)


async def test_facts_of_a_cluster_are_shared(replicas: list[ReadingReplica], eks: CountingEks) -> None:
    facts = [await each.reads.cluster(CLUSTER, 30, WHO) for each in replicas]
    assert len(eks.calls) == 1
    assert facts[1:] == facts[:-1]


async def test_look_is_never_younger_than_its_call(replicas: list[ReadingReplica], eks: CountingEks) -> None:
    eks.answer_s = 0.05
    for replica in (0, 1, 2) * 3:
        seen = await read(replicas[replica], 0.2)
        await asyncio.sleep(0.03)
        loop = asyncio.get_running_loop().time()
        latest = eks.times(REF)[-1]
        assert time.monotonic() - seen.began >= loop - latest - 0.001


async def test_read_of_an_older_look_than_accepted_makes_a_call(
    replicas: list[ReadingReplica], eks: CountingEks
) -> None:
    await read(replicas[0])
    await read(replicas[1], max_age=0)
    assert len(eks.calls) == 2


async def test_final_update_is_shared_at_any_age(
    replicas: list[ReadingReplica], ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    eks.statuses[str(REF)] = "Successful"
    await read(replicas[0])
    await set_looks(ledger_database, "looked_at = looked_at - interval '20 min'")
    assert (await read(replicas[1])).update.final
    assert len(eks.calls) == 1


async def test_look_that_began_before_a_forget_is_void(
    replicas: list[ReadingReplica], ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    """For the replica that made it too."""
    eks.open.clear()
    looking = asyncio.create_task(read(replicas[0]))
    await wait_until(lambda: eks.calls)
    replicas[1].reads.forget(REF)
    with psycopg.connect(ledger_database.owner_url, autocommit=True) as connection:
        forgotten = "SELECT FROM eksgateway.looks WHERE not_before IS NOT NULL"
        await wait_until(lambda: connection.execute(forgotten).rowcount)
    eks.statuses[str(REF)] = "Cancelling"
    eks.open.set()
    assert (await looking).update.status == "Cancelling"
    assert replicas[0].counts.looks["void"] == 1
    assert (await read(replicas[2])).update.status == "Cancelling"
    assert len(eks.calls) == 2


async def test_forget_drops_the_looks_of_every_replica(
    replicas: list[ReadingReplica], eks: CountingEks
) -> None:
    for each in replicas:
        await read(each)
    assert len(eks.calls) == 1
    eks.statuses[str(REF)] = "Cancelling"
    replicas[0].reads.forget(REF)
    assert (await read(replicas[0])).update.status == "Cancelling"
    for each in replicas[1:]:
        assert (await read(each, max_age=0.0001)).update.status == "Cancelling"


async def test_claim_of_a_replica_that_died_runs_out(
    ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    async with run_replicas(ledger_database.url, eks, count=2, claim_s=1) as (dead, alive):
        eks.open.clear()
        dying = asyncio.create_task(read(dead))
        await wait_until(lambda: eks.calls)
        began = time.monotonic()
        waiting = asyncio.create_task(read(alive))
        await wait_until(lambda: len(eks.calls) == 2)
        assert 0.7 < time.monotonic() - began < 2.5
        eks.open.set()
        await asyncio.gather(dying, waiting)


async def test_refusal_is_shared_by_pollers(replicas: list[ReadingReplica], eks: CountingEks) -> None:
    error = EksNotFound("No such update.", metadata={"eks_code": "ResourceNotFoundException"})
    eks.error = error
    for each in replicas:
        with pytest.raises(EksNotFound) as caught:
            await each.reads.poll(REF, 30)
        assert (caught.value.message, caught.value.metadata) == (error.message, error.metadata)
    assert len(eks.calls) == 1


async def test_refusal_from_before_a_read_is_no_answer_to_it(
    replicas: list[ReadingReplica], eks: CountingEks
) -> None:
    """As at one gateway, which caches no error: an update may have appeared since."""
    eks.error = EksNotFound()
    with pytest.raises(EksNotFound):
        await read(replicas[0])
    eks.error = None
    assert (await read(replicas[1])).update.status == "InProgress"
    assert (await read(replicas[0])).update.status == "InProgress"
    assert len(eks.calls) == 2


async def test_refusal_from_before_a_watch_is_no_answer_to_it(
    replicas: list[ReadingReplica], eks: CountingEks
) -> None:
    eks.error = EksNotFound()
    with pytest.raises(EksNotFound):
        await replicas[0].watches.subscribe(REF).next(10)
    eks.error = None
    assert await replicas[1].watches.subscribe(REF).next(10) is not None
    assert len(eks.calls) == 2


async def test_update_that_returns_after_a_refusal_is_shared(
    replicas: list[ReadingReplica], eks: CountingEks
) -> None:
    eks.error = EksNotFound()
    with pytest.raises(EksNotFound):
        await read(replicas[0])
    eks.error = None
    await read(replicas[0], max_age=0)
    assert (await read(replicas[1])).update.status == "InProgress"
    assert len(eks.calls) == 2


@pytest.mark.parametrize("error", [EksThrottled(), EksUnavailable()], ids=["throttled", "unavailable"])
async def test_failure_that_is_no_answer_frees_the_claim(
    replicas: list[ReadingReplica], eks: CountingEks, error: Exception
) -> None:
    eks.error = error
    with pytest.raises(type(error)):
        await replicas[0].reads.poll(REF, 30)
    eks.error = None
    began = time.monotonic()
    await replicas[1].reads.poll(REF, 30)
    assert len(eks.calls) == 2
    assert time.monotonic() - began < 4


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param("body = '{'", id="no JSON"),
        pytest.param("body = '[]'", id="no update"),
        pytest.param("body = NULL", id="no body"),
        pytest.param("body = replace(body, 'update-1', 'update-2')", id="another update"),
        pytest.param("body = replace(body, 'InProgress', '\\ud800')", id="no Unicode"),
        pytest.param("failed_at = looked_at, failure = '{}'", id="no failure"),
        pytest.param(
            """failed_at = looked_at, failure = '{"reason":"INTERNAL","message":""}'""", id="another failure"
        ),
    ],
)
async def test_damaged_look_counts_as_absent_and_is_logged_once(
    replicas: list[ReadingReplica], ledger_database: LedgerDatabase, eks: CountingEks, damaged: str
) -> None:
    await read(replicas[0])
    await set_looks(ledger_database, damaged)
    eks.error = EksUnavailable()
    with capture_logs() as events:
        for _ in range(2):
            with pytest.raises(EksUnavailable):
                await replicas[1].reads.poll(REF, 30)
        eks.error = None
        assert (await read(replicas[1])).update.status == "InProgress"
    assert [each["event"] for each in events].count("fleet.look_damaged") == 1
    assert (await read(replicas[2])).update.status == "InProgress"
    assert len(eks.calls) == 4


@pytest.mark.parametrize(
    "future",
    [
        pytest.param("looked_at = looked_at + interval '1 h'", id="look"),
        pytest.param("claimed_by = gen_random_uuid(), claimed_until = now() + interval '1 h'", id="claim"),
        pytest.param("not_before = now() + interval '1 h'", id="forget"),
    ],
)
async def test_times_from_the_future_count_as_absent(
    replicas: list[ReadingReplica], ledger_database: LedgerDatabase, eks: CountingEks, future: str
) -> None:
    """The database's clock was set back."""
    await read(replicas[0])
    await set_looks(ledger_database, future)
    began = time.monotonic()
    await read(replicas[1], max_age=0)
    await read(replicas[2])
    assert len(eks.calls) == 2
    assert time.monotonic() - began < 5


class JumpingClock(SystemClock):
    """By a replica's clock, a database's clock is set back by what is skipped."""

    skipped = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.skipped


async def test_looks_from_before_the_databases_clock_was_set_back_are_void(
    ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    """By less than their age, so that none is from the future. Later ones are shared again."""
    clock = JumpingClock()
    async with run_replicas(ledger_database.url, eks, count=2, clock=clock) as (one, other):
        await read(one)
        await read(other)
        clock.skipped += 20
        eks.calls.clear()
        with capture_logs() as events:
            assert (await read(other, max_age=10)).mine
        assert [each["event"] for each in events] == ["fleet.clock_set_back"]
        assert len(eks.calls) == 1
        await read(one, max_age=10)  # it notices for itself
        shared = await other.reads.find(REF, clock.monotonic() - 10)
        assert shared
        assert not shared.mine
        assert len(eks.calls) == 2


async def test_look_under_way_while_the_databases_clock_is_set_back_is_void(
    ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    clock = JumpingClock()
    async with run_replicas(ledger_database.url, eks, count=2, clock=clock) as (one, other):
        eks.open.clear()
        looking = asyncio.create_task(read(one))
        await wait_until(lambda: eks.calls)
        clock.skipped += 20
        eks.open.set()
        await looking
        assert (await read(other, max_age=10)).mine
        assert len(eks.calls) == 2


async def test_each_replica_looks_for_itself_while_the_database_is_away(
    replicas: list[ReadingReplica], ledger_database: LedgerDatabase, eks: CountingEks
) -> None:
    """And shares again when it is back."""
    await read(replicas[0])
    ledger_database.refuse_connections()
    eks.calls.clear()
    seen = [await read(each, max_age=0) for each in replicas]
    assert len(eks.calls) == len(replicas)
    assert [each.changed for each in seen] == [None] * 3
    replicas[0].reads.forget(REF)
    ledger_database.refuse_connections(refuse=False)
    for each in replicas:
        async with asyncio.timeout(30):
            while (await read(each, max_age=0)).changed is None:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    eks.calls.clear()
    for each in replicas:
        await each.reads.poll(REF, 5)
    assert len(eks.calls) <= 1


async def test_old_rows_are_deleted(replicas: list[ReadingReplica], ledger_database: LedgerDatabase) -> None:
    await read(replicas[0])
    await replicas[0].looks.clean()
    assert (await replicas[1].reads.find(REF, 0)) is not None
    await set_looks(
        ledger_database,
        "looked_at = looked_at - interval '2 h', claimed_until = claimed_until - interval '2 h'",
    )
    await replicas[0].looks.clean()
    async with await psycopg.AsyncConnection.connect(ledger_database.owner_url) as connection:
        rows = await connection.execute("SELECT count(*) FROM eksgateway.looks")
        assert await rows.fetchone() == (0,)


async def test_time_of_a_look_is_the_databases(
    replicas: list[ReadingReplica], ledger_database: LedgerDatabase
) -> None:
    seen = await read(replicas[0])
    async with await psycopg.AsyncConnection.connect(ledger_database.owner_url) as connection:
        row = await (await connection.execute("SELECT looked_at, now() FROM eksgateway.looks")).fetchone()
    assert row is not None
    assert row[0] == seen.observe_time
    assert row[1] - row[0] < timedelta(seconds=30)
