"""Reads that are shared by all who ask."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine

import pytest

from eksgateway.eks.budget import Budget
from eksgateway.eks.shared_reads import SeenUpdate, SharedReads
from eksgateway.errors import EksNotFound, EksUnavailable
from eksgateway.model import Caller, ClusterFacts, ClusterRef, Target, Update, UpdateRef
from support.clock import FakeClock, settle

CLUSTER = ClusterRef("111122223333", "us-east-1", "blue")
UPDATE = UpdateRef(CLUSTER, "u-1")
WHO = "jwt:test:ann"


class SlowEks:
    """An ``Eks`` whose reads end when the test says so; the n-th answer says that it is the n-th."""

    def __init__(self) -> None:
        self.calls: list[asyncio.Future[None]] = []
        self.following: dict[str, str] = {}  # page token by page token
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
        assert on_behalf_of is None  # what is shared is nobody's own
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
        self, ref: UpdateRef, *, on_behalf_of: Caller, token: str, send_before: float
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
def shared(eks: SlowEks, clock: FakeClock) -> SharedReads:
    return SharedReads(eks, Budget(1000, clock), clock, cache_size=2)


async def asked(
    read: Callable[[], Coroutine[None, None, SeenUpdate]], times: int = 1
) -> list[asyncio.Task[SeenUpdate]]:
    tasks = [asyncio.create_task(read()) for _ in range(times)]
    await settle()
    return tasks


async def read(shared: SharedReads, eks: SlowEks, max_age: float, ref: UpdateRef = UPDATE) -> str:
    """One read from start to end, whose call, if it needs one, is answered at once."""
    before = len(eks.calls)
    (task,) = await asked(lambda: shared.update(ref, max_age, WHO))
    if len(eks.calls) > before:
        eks.end(len(eks.calls))
    return (await task).update.status


async def test_many_at_once_are_one_call(shared: SharedReads, eks: SlowEks) -> None:
    """Everybody who asks while a call that is new enough is under way shares it."""
    tasks = await asked(lambda: shared.update(UPDATE, 30, WHO), times=100)
    assert len(eks.calls) == 1
    eks.end(1)
    assert {seen.update.status for seen in await asyncio.gather(*tasks)} == {"answer 1"}


async def test_an_answer_serves_until_its_age(shared: SharedReads, eks: SlowEks, clock: FakeClock) -> None:
    """A kept answer serves whoever accepts its age, counted from the start of its call."""
    assert await read(shared, eks, 30) == "answer 1"
    await clock.advance(29)
    assert await read(shared, eks, 30) == "answer 1"
    assert await read(shared, eks, 10) == "answer 2"
    await clock.advance(30)
    assert await read(shared, eks, 30) == "answer 3"


async def test_times_are_those_of_the_calls_start(
    shared: SharedReads, eks: SlowEks, clock: FakeClock
) -> None:
    """The state may have changed while the call was under way: it is as old as the call."""
    (task,) = await asked(lambda: shared.update(UPDATE, 0, WHO))
    began, stamp = clock.now(), clock.monotonic()
    await clock.advance(5)
    eks.end(1)
    seen = await task
    assert (seen.observe_time, seen.stamp) == (began, stamp)


async def test_age_zero_is_never_served_by_what_began_before(shared: SharedReads, eks: SlowEks) -> None:
    """Even within one tick of the clock, neither a kept answer nor a call under way is fresh enough."""
    assert await read(shared, eks, 0) == "answer 1"
    assert await read(shared, eks, 0) == "answer 2"


async def test_those_who_come_during_a_call_share_the_next(shared: SharedReads, eks: SlowEks) -> None:
    """Fresh reads during a call wait for it and then share one more: never two calls at once."""
    (first,) = await asked(lambda: shared.update(UPDATE, 0, WHO))
    rest = await asked(lambda: shared.update(UPDATE, 0, WHO), times=50)
    assert len(eks.calls) == 1
    eks.end(1)
    await settle()
    assert len(eks.calls) == 2
    eks.end(2)
    assert (await first).update.status == "answer 1"
    assert {seen.update.status for seen in await asyncio.gather(*rest)} == {"answer 2"}


async def test_a_failed_call_does_not_fail_the_next(shared: SharedReads, eks: SlowEks) -> None:
    """Who waited for a call that failed only to come after it gets an answer of their own."""
    (first,) = await asked(lambda: shared.update(UPDATE, 0, WHO))
    (second,) = await asked(lambda: shared.update(UPDATE, 0, WHO))
    eks.end(1, EksNotFound())
    await settle()
    eks.end(2)
    with pytest.raises(EksNotFound):
        await first
    assert (await second).update.status == "answer 2"


async def test_one_who_leaves_ends_nobody_elses_call(shared: SharedReads, eks: SlowEks) -> None:
    """The first to ask leaves; the others still get its answer."""
    first, second = await asked(lambda: shared.update(UPDATE, 30, WHO), times=2)
    first.cancel()
    await settle()
    eks.end(1)
    assert (await second).update.status == "answer 1"
    assert first.cancelled()


async def test_errors_are_shared_and_never_kept(shared: SharedReads, eks: SlowEks) -> None:
    """All who wait get the error, each with metadata of their own; who comes next makes a new call."""
    tasks = await asked(lambda: shared.update(UPDATE, 30, WHO), times=3)
    eks.end(1, EksNotFound(metadata={"eks_code": "Code"}, retry_after=2.0, detail="d"))
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    for number, error in enumerate(errors):
        assert isinstance(error, EksNotFound)
        assert (error.metadata, error.retry_after, error.detail) == ({"eks_code": "Code"}, 2.0, "d")
        error.metadata["decision_id"] = str(number)
    assert await read(shared, eks, 30) == "answer 2"


async def test_an_error_that_nobody_waits_for_is_not_reported(shared: SharedReads, eks: SlowEks) -> None:
    """When all have left, the error is dropped without a word from asyncio."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    (task,) = await asked(lambda: shared.update(UPDATE, 30, WHO))
    task.cancel()
    await settle()
    eks.end(1, EksNotFound())
    await settle()
    del task
    eks.calls.clear()  # or the error's traceback keeps alive what would report it
    gc.collect()
    assert not reported


async def test_a_call_that_was_not_needed_in_the_end_leaves_the_one_before_it(
    shared: SharedReads, eks: SlowEks
) -> None:
    """Who waited for a newer call has left: the one under way is joined, waited for, and kept."""
    (first,) = await asked(lambda: shared.update(UPDATE, 30, WHO))
    (newer,) = await asked(lambda: shared.update(UPDATE, 0, WHO))
    newer.cancel()
    await settle()
    (joins,) = await asked(lambda: shared.update(UPDATE, 30, WHO))
    (waits,) = await asked(lambda: shared.update(UPDATE, 0, WHO))
    waits.cancel()
    await settle()
    (again,) = await asked(lambda: shared.update(UPDATE, 0, WHO))
    assert len(eks.calls) == 1
    again.cancel()
    await settle()
    eks.end(1)
    assert [(await each).update.status for each in (first, joins)] == ["answer 1"] * 2
    assert await read(shared, eks, 30) == "answer 1"


async def test_the_least_recently_used_answer_goes_first(shared: SharedReads, eks: SlowEks) -> None:
    """What is kept is bounded; an answer that was used outlives one that was not."""
    refs = [UpdateRef(CLUSTER, f"u-{number}") for number in range(3)]
    assert [await read(shared, eks, 30, ref) for ref in refs[:2]] == ["answer 1", "answer 2"]
    assert await read(shared, eks, 30, refs[0]) == "answer 1"
    assert await read(shared, eks, 30, refs[2]) == "answer 3"
    assert await read(shared, eks, 30, refs[0]) == "answer 1"
    assert await read(shared, eks, 30, refs[1]) == "answer 4"


async def test_clusters_are_shared_too(shared: SharedReads, eks: SlowEks) -> None:
    """DescribeCluster goes the same way, apart from updates."""
    tasks = [asyncio.create_task(shared.cluster(CLUSTER, 30, WHO)) for _ in range(5)]
    await settle()
    assert len(eks.calls) == 1
    eks.end(1)
    assert {facts.status for facts in await asyncio.gather(*tasks)} == {"answer 1"}


async def test_what_was_forgotten_is_read_again_and_a_call_under_way_is_not_kept(
    eks: SlowEks, clock: FakeClock
) -> None:
    """After a cancel nobody is told what was seen before it."""
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


async def test_what_has_ended_is_not_asked_about_again(
    shared: SharedReads, eks: SlowEks, clock: FakeClock
) -> None:
    """An update that had ended serves everybody for as long as there is room, but for polls."""
    eks.status = "Successful"
    assert await read(shared, eks, 30) == "Successful"
    await clock.advance(10_000)
    assert await read(shared, eks, 0) == "Successful"
    assert len(eks.calls) == 1
    (poll,) = await asked(lambda: shared.poll(UPDATE, 30))
    eks.end(2)
    await poll
    for other in ("u-2", "u-3"):  # there is room for two
        await read(shared, eks, 30, UpdateRef(CLUSTER, other))
    await read(shared, eks, 30)
    assert len(eks.calls) == 5


async def test_what_is_forgotten_is_asked_about_even_if_it_had_ended(
    shared: SharedReads, eks: SlowEks
) -> None:
    """A cancel that EKS took says that it had not."""
    eks.status = "Failed"
    await read(shared, eks, 30)
    shared.forget(UPDATE)
    await read(shared, eks, 30)
    assert len(eks.calls) == 2


LISTINGS: dict[str, Callable[[SharedReads], Coroutine[None, None, tuple[str, ...]]]] = {
    "clusters": lambda shared: shared.cluster_names(CLUSTER.target, 30, WHO),
    "updates": lambda shared: shared.update_ids(CLUSTER, 30, WHO),
}


@pytest.mark.parametrize("listing", LISTINGS)
async def test_a_listing_is_shared_page_by_page(
    shared: SharedReads, eks: SlowEks, clock: FakeClock, listing: str
) -> None:
    """All pages, each asked for once however many ask at once, and served until its age."""
    eks.following = {"": "two"}
    tasks = [asyncio.create_task(LISTINGS[listing](shared)) for _ in range(10)]
    for page in (1, 2):
        await settle()
        eks.end(page)
    expected = ("answer 1 to the first", "answer 2 to two")
    assert {*await asyncio.gather(*tasks)} == {expected}
    await clock.advance(29)
    assert await LISTINGS[listing](shared) == expected
    assert len(eks.calls) == 2


@pytest.mark.parametrize("listing", LISTINGS)
async def test_a_listing_without_an_end_is_given_up(shared: SharedReads, eks: SlowEks, listing: str) -> None:
    """Tokens that lead nowhere new do not keep anybody asking."""
    eks.following = {"": "again", "again": "again"}
    task = asyncio.create_task(LISTINGS[listing](shared))
    for page in (1, 2):
        await settle()
        eks.end(page)
    with pytest.raises(EksUnavailable):
        await task
