"""Reads that several callers share."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine

import pytest

from eksgateway.clock import Deadline
from eksgateway.eks.budget import Budget
from eksgateway.eks.shared_reads import SeenUpdate, SharedReads
from eksgateway.errors import EksNotFound, EksUnavailable
from eksgateway.model import Caller, ClusterFacts, ClusterRef, Target, Update, UpdateRef
from support.clock import FakeClock, settle

CLUSTER = ClusterRef("111122223333", "us-east-1", "blue")
UPDATE = UpdateRef(CLUSTER, "u-1")
WHO = "jwt:test:ann"


class SlowEks:
    """An ``Eks`` whose reads end when the test ends them. The n-th answer contains its number."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Future[None]] = []
        self.following: dict[str, str] = {}  # the next page token by page token
        self.status = ""  # of updates; else the answer's number

    async def _answer(self) -> str:
        self.calls.append(asyncio.get_running_loop().create_future())
        number = len(self.calls)
        await self.calls[-1]
        return f"answer {number}"

    def end(self, number: int, error: Exception | None = None) -> None:
        if error:
            self.calls[number - 1].set_exception(error)
        else:
            self.calls[number - 1].set_result(None)

    def serves(self, cluster: ClusterRef) -> bool:
        return cluster.region == "us-east-1"

    async def describe_cluster(
        self, cluster: ClusterRef, *, on_behalf_of: Caller | None = None
    ) -> ClusterFacts:
        assert on_behalf_of is None  # a shared read is made as the gateway
        return ClusterFacts(arn=cluster.name, name=cluster.name, status=await self._answer(), version="1")

    async def describe_update(self, ref: UpdateRef, *, on_behalf_of: Caller | None = None) -> Update:
        assert on_behalf_of is None
        answer = await self._answer()
        return Update(id=ref.update_id, status=self.status or answer, type="")

    async def list_clusters(
        self, target: Target, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        assert (target, page_size) == (CLUSTER.target, 100)
        return await self._page(page_token)

    async def list_updates(
        self, cluster: ClusterRef, page_size: int, page_token: str
    ) -> tuple[tuple[str, ...], str]:
        assert (cluster, page_size) == (CLUSTER, 100)
        return await self._page(page_token)

    async def _page(self, token: str) -> tuple[tuple[str, ...], str]:
        return (f"{await self._answer()} to {token or 'the first'}",), self.following.get(token, "")

    async def cancel_update(
        self, ref: UpdateRef, *, on_behalf_of: Caller, token: str, send_before: Deadline
    ) -> Update:
        raise AssertionError(ref, on_behalf_of, token, send_before)

    async def close(self) -> None:
        pass


@pytest.fixture
def eks() -> SlowEks:
    return SlowEks()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def reads(eks: SlowEks, clock: FakeClock) -> SharedReads:
    return SharedReads(eks, Budget(1000, clock), clock, cache_size=2)


async def start(
    read: Callable[[], Coroutine[None, None, SeenUpdate]], times: int = 1
) -> list[asyncio.Task[SeenUpdate]]:
    tasks = [asyncio.create_task(read()) for _ in range(times)]
    await settle()
    return tasks


async def read(reads: SharedReads, eks: SlowEks, max_age: float, ref: UpdateRef = UPDATE) -> str:
    """One read. Its call, if it makes one, is answered at once."""
    before = len(eks.calls)
    (task,) = await start(lambda: reads.update(ref, max_age, WHO))
    if len(eks.calls) > before:
        eks.end(len(eks.calls))
    return (await task).update.status


async def test_concurrent_reads_share_one_call(reads: SharedReads, eks: SlowEks) -> None:
    tasks = await start(lambda: reads.update(UPDATE, 30, WHO), times=100)
    assert len(eks.calls) == 1
    eks.end(1)
    assert {seen.update.status for seen in await asyncio.gather(*tasks)} == {"answer 1"}


async def test_a_cached_result_is_used_up_to_the_accepted_age(
    reads: SharedReads, eks: SlowEks, clock: FakeClock
) -> None:
    """The age counts from the start of the call."""
    assert await read(reads, eks, 30) == "answer 1"
    await clock.advance(29)
    assert await read(reads, eks, 30) == "answer 1"
    assert await read(reads, eks, 10) == "answer 2"
    await clock.advance(30)
    assert await read(reads, eks, 30) == "answer 3"


async def test_the_times_of_a_result_are_those_of_the_start_of_its_call(
    reads: SharedReads, eks: SlowEks, clock: FakeClock
) -> None:
    (task,) = await start(lambda: reads.update(UPDATE, 0, WHO))
    time, began = clock.now(), clock.monotonic()
    await clock.advance(5)
    eks.end(1)
    seen = await task
    assert (seen.observe_time, seen.began) == (time, began)


async def test_age_zero_makes_a_new_call_within_one_clock_tick(reads: SharedReads, eks: SlowEks) -> None:
    assert await read(reads, eks, 0) == "answer 1"
    assert await read(reads, eks, 0) == "answer 2"


async def test_reads_of_age_zero_during_a_call_share_the_next_call(reads: SharedReads, eks: SlowEks) -> None:
    """Two calls never run at once."""
    (first,) = await start(lambda: reads.update(UPDATE, 0, WHO))
    rest = await start(lambda: reads.update(UPDATE, 0, WHO), times=50)
    assert len(eks.calls) == 1
    eks.end(1)
    await settle()
    assert len(eks.calls) == 2
    eks.end(2)
    assert (await first).update.status == "answer 1"
    assert {seen.update.status for seen in await asyncio.gather(*rest)} == {"answer 2"}


async def test_a_failed_call_does_not_fail_the_next(reads: SharedReads, eks: SlowEks) -> None:
    """A caller that waits for the next call gets its result."""
    (first,) = await start(lambda: reads.update(UPDATE, 0, WHO))
    (second,) = await start(lambda: reads.update(UPDATE, 0, WHO))
    eks.end(1, EksNotFound())
    await settle()
    eks.end(2)
    with pytest.raises(EksNotFound):
        await first
    assert (await second).update.status == "answer 2"


async def test_a_caller_that_leaves_does_not_end_the_call_of_another(
    reads: SharedReads, eks: SlowEks
) -> None:
    first, second = await start(lambda: reads.update(UPDATE, 30, WHO), times=2)
    first.cancel()
    await settle()
    eks.end(1)
    assert (await second).update.status == "answer 1"
    assert first.cancelled()


async def test_errors_are_shared_and_not_cached(reads: SharedReads, eks: SlowEks) -> None:
    """Each caller has a copy with metadata of its own."""
    tasks = await start(lambda: reads.update(UPDATE, 30, WHO), times=3)
    eks.end(1, EksNotFound(metadata={"eks_code": "Code"}, retry_after=2.0, detail="d"))
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    for number, error in enumerate(errors):
        assert isinstance(error, EksNotFound)
        assert (error.metadata, error.retry_after, error.detail) == ({"eks_code": "Code"}, 2.0, "d")
        error.metadata["decision_id"] = str(number)
    assert await read(reads, eks, 30) == "answer 2"


async def test_an_error_without_a_caller_left_is_not_reported(reads: SharedReads, eks: SlowEks) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    (task,) = await start(lambda: reads.update(UPDATE, 30, WHO))
    task.cancel()
    await settle()
    eks.end(1, EksNotFound())
    await settle()
    del task
    eks.calls.clear()  # otherwise the error's traceback keeps the task alive, which would report it
    gc.collect()
    assert not reported


async def test_an_abandoned_call_leaves_the_previous_call_to_join(reads: SharedReads, eks: SlowEks) -> None:
    (first,) = await start(lambda: reads.update(UPDATE, 30, WHO))
    (newer,) = await start(lambda: reads.update(UPDATE, 0, WHO))
    newer.cancel()
    await settle()
    (joins,) = await start(lambda: reads.update(UPDATE, 30, WHO))
    (waits,) = await start(lambda: reads.update(UPDATE, 0, WHO))
    waits.cancel()
    await settle()
    (again,) = await start(lambda: reads.update(UPDATE, 0, WHO))
    assert len(eks.calls) == 1
    again.cancel()
    await settle()
    eks.end(1)
    assert [(await each).update.status for each in (first, joins)] == ["answer 1"] * 2
    assert await read(reads, eks, 30) == "answer 1"


async def test_the_least_recently_used_result_is_dropped(reads: SharedReads, eks: SlowEks) -> None:
    refs = [UpdateRef(CLUSTER, f"u-{number}") for number in range(3)]
    assert [await read(reads, eks, 30, ref) for ref in refs[:2]] == ["answer 1", "answer 2"]
    assert await read(reads, eks, 30, refs[0]) == "answer 1"
    assert await read(reads, eks, 30, refs[2]) == "answer 3"
    assert await read(reads, eks, 30, refs[0]) == "answer 1"
    assert await read(reads, eks, 30, refs[1]) == "answer 4"


async def test_reads_of_clusters_are_shared(reads: SharedReads, eks: SlowEks) -> None:
    tasks = [asyncio.create_task(reads.cluster(CLUSTER, 30, WHO)) for _ in range(5)]
    await settle()
    assert len(eks.calls) == 1
    eks.end(1)
    assert {facts.status for facts in await asyncio.gather(*tasks)} == {"answer 1"}


async def test_forget_drops_the_result_of_a_running_call(eks: SlowEks, clock: FakeClock) -> None:
    reads = SharedReads(eks, Budget(1000, clock), clock)
    before = asyncio.create_task(reads.update(UPDATE, 30, WHO))
    await settle()
    reads.forget(UPDATE)
    eks.end(1)
    await before
    after = asyncio.create_task(reads.update(UPDATE, 30, WHO))
    await settle()
    eks.end(2)
    assert (await after).update.status == "answer 2"
    assert (await reads.update(UPDATE, 30, WHO)).update.status == "answer 2"


async def test_a_final_update_is_served_from_the_cache_at_any_age(
    reads: SharedReads, eks: SlowEks, clock: FakeClock
) -> None:
    """Except to polls."""
    eks.status = "Successful"
    assert await read(reads, eks, 30) == "Successful"
    await clock.advance(10_000)
    assert await read(reads, eks, 0) == "Successful"
    assert len(eks.calls) == 1
    (poll,) = await start(lambda: reads.poll(UPDATE, 30))
    eks.end(2)
    await poll
    for other in ("u-2", "u-3"):  # there is room for two
        await read(reads, eks, 30, UpdateRef(CLUSTER, other))
    await read(reads, eks, 30)
    assert len(eks.calls) == 5


async def test_forget_drops_a_final_update(reads: SharedReads, eks: SlowEks) -> None:
    eks.status = "Failed"
    await read(reads, eks, 30)
    reads.forget(UPDATE)
    await read(reads, eks, 30)
    assert len(eks.calls) == 2


LISTINGS: dict[str, Callable[[SharedReads], Coroutine[None, None, tuple[str, ...]]]] = {
    "clusters": lambda reads: reads.cluster_names(CLUSTER.target, 30, WHO),
    "updates": lambda reads: reads.update_ids(CLUSTER, 30, WHO),
}


@pytest.mark.parametrize("listing", LISTINGS)
async def test_a_listing_is_shared_page_by_page(
    reads: SharedReads, eks: SlowEks, clock: FakeClock, listing: str
) -> None:
    """Each page is read once for all callers, and served up to its age."""
    eks.following = {"": "two"}
    tasks = [asyncio.create_task(LISTINGS[listing](reads)) for _ in range(10)]
    for page in (1, 2):
        await settle()
        eks.end(page)
    expected = ("answer 1 to the first", "answer 2 to two")
    assert {*await asyncio.gather(*tasks)} == {expected}
    await clock.advance(29)
    assert await LISTINGS[listing](reads) == expected
    assert len(eks.calls) == 2


@pytest.mark.parametrize("listing", LISTINGS)
async def test_a_listing_without_an_end_is_unavailable(
    reads: SharedReads, eks: SlowEks, listing: str
) -> None:
    eks.following = {"": "again", "again": "again"}
    task = asyncio.create_task(LISTINGS[listing](reads))
    for page in (1, 2):
        await settle()
        eks.end(page)
    with pytest.raises(EksUnavailable):
        await task
