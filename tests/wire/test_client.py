"""`eksgateway.client` against real gateways that stop, start and are cut off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest

from eksgateway import client
from eksgateway.client import CHANNEL_OPTIONS, ErrorDetails, Knowledge, Timing
from eksgateway.clock import SystemClock
from eksgateway.sandbox.issuer import ThrowawayIssuer
from eksgateway.v1 import cancellation_pb2 as cpb
from eksgateway.v1 import update_pb2
from support.gateway import RunningGateway, run_gateway
from support.simulator import SimulatedEks
from support.tcp_proxy import TcpProxy
from support.waiting import wait_until
from support.wire import Gate, add_hooks, expect_refusal

QUICK = Timing(first_backoff_s=0.05, longest_backoff_s=0.2)
OPTIONS = (
    *CHANNEL_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


class Program:
    """A program that watches prod-1 and keeps the states."""

    def __init__(self, address: str, issuer: ThrowawayIssuer, update_id: str, **options: Any) -> None:
        self.received: list[Knowledge] = []
        self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        token = issuer.token("viewer", ("viewers",))
        options = {"timing": QUICK, "credentials": lambda: token, **options}
        self._knowledge = client.watch(self._channel, "prod-1", update_id, **options)
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self._channel, aclosing(self._knowledge):
            async for known in self._knowledge:
                self.received.append(known)

    async def wait_for_status(self, status: str) -> None:
        """Wait until it received this status, or has ended."""
        await wait_until(lambda: self.task.done() or self.statuses[-1:] == [status])
        assert self.statuses[-1:] == [status], self.task

    @property
    def statuses(self) -> list[str]:
        return [known.update.status for known in self.received]

    @property
    def sequences(self) -> list[int]:
        return [known.sequence for known in self.received]


@asynccontextmanager
async def program(
    address: str, issuer: ThrowawayIssuer, update_id: str, **options: Any
) -> AsyncIterator[Program]:
    here = Program(address, issuer, update_id, **options)
    try:
        yield here
    finally:
        here.task.cancel()
        await asyncio.gather(here.task, return_exceptions=True)


async def test_watch_yields_each_state_once_and_ends(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1")
    async with program(gateway.address, gateway.issuer, update_id) as here:
        await here.wait_for_status("InProgress")
        for status in ("Cancelling", "Cancelled"):
            gateway.eks.set_update("prod-1", update_id, status=status)
            await here.wait_for_status(status)
        await asyncio.wait_for(here.task, 60)
        assert here.sequences == [1, 2, 3]
        assert [known.final for known in here.received] == [False, False, True]
        assert here.received[-1].phase == cpb.CANCELLATION_PHASE_CANCELLED
        assert not any(known.stale for known in here.received)
        assert all(0 <= known.age_s < 20 for known in here.received)
    await wait_until(lambda: not gateway.gateway.watches.pollers)


async def test_watch_resumes_after_a_gateway_restart(tmp_path: Path, eks: SimulatedEks) -> None:
    """Changes during the restart are yielded once, with the next sequence."""
    update_id = eks.rollback("prod-1")
    issuer = ThrowawayIssuer("test")
    async with run_gateway(tmp_path, eks, issuer=issuer) as first:
        address = first.address
        here = Program(first.address, issuer, update_id)
        await here.wait_for_status("InProgress")
    try:
        eks.set_update("prod-1", update_id, status="Paused")
        async with run_gateway(tmp_path, eks, issuer=issuer, listeners=[{"address": address}]):
            await here.wait_for_status("Paused")
        async with run_gateway(tmp_path, eks, issuer=issuer, listeners=[{"address": address}]):
            eks.set_update("prod-1", update_id, status="Successful")
            await asyncio.wait_for(here.task, 60)
        assert here.statuses == ["InProgress", "Paused", "Successful"]
        assert here.sequences == [1, 2, 3]
    finally:
        here.task.cancel()


async def test_watch_resumes_over_a_breaking_network(gateway: RunningGateway) -> None:
    """Each state once, in order, including the final one."""
    update_id = gateway.eks.rollback("prod-1")
    steps = [f"Step{number}" for number in range(12)]
    async with TcpProxy(gateway.address) as proxy:
        async with program(proxy.address, gateway.issuer, update_id) as here:
            await here.wait_for_status("InProgress")
            for number, status in enumerate(steps):
                gateway.eks.set_update("prod-1", update_id, status=status)
                proxy.cut()
                if number % 3 == 0:
                    await here.wait_for_status(status)
            proxy.refusing = True
            proxy.cut()
            gateway.eks.set_update("prod-1", update_id, status="Cancelled")
            before = proxy.connections
            await wait_until(lambda: proxy.connections > before)
            proxy.refusing = False
            await asyncio.wait_for(here.task, 60)
        assert proxy.connections > 4
    order = ["InProgress", *steps, "Cancelled"]
    places = [order.index(status) for status in here.statuses]
    assert places == sorted(set(places))
    assert here.sequences == list(range(1, len(places) + 1))
    assert here.received[-1].final


async def test_watch_replaces_a_silent_stream(
    tmp_path: Path, eks: SimulatedEks, caplog: pytest.LogCaptureFixture
) -> None:
    """A stream without heartbeats is opened anew."""
    update_id = eks.rollback("prod-1")
    timing = Timing(first_backoff_s=0.05, longest_backoff_s=0.2, silence_s=0.5)
    caplog.set_level("INFO", "eksgateway.client")
    async with (
        run_gateway(tmp_path, eks, watch={"heartbeat_s": 0.1}) as gateway,
        TcpProxy(gateway.address) as proxy,
        program(proxy.address, gateway.issuer, update_id, timing=timing) as here,
    ):
        await here.wait_for_status("InProgress")
        before = caplog.text.count("the stream ended; trying again")  # a slow machine may be silent too
        proxy.passing.clear()
        await wait_until(lambda: caplog.text.count("the stream ended; trying again") > before)
        eks.set_update("prod-1", update_id, status="Successful")
        proxy.passing.set()
        await asyncio.wait_for(here.task, 60)
        assert here.sequences == [1, 2]


async def test_watch_marks_states_stale_while_eks_cannot_be_read(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id = eks.rollback("prod-1")
    async with (
        run_gateway(tmp_path, eks, watch={"heartbeat_s": 0.1}) as gateway,
        program(gateway.address, gateway.issuer, update_id, max_age=2.0) as here,
    ):
        await here.wait_for_status("InProgress")
        eks.fault("DescribeUpdate", code="ServerException", status=500, times=100_000)
        await wait_until(lambda: here.received[-1].stale)
        assert here.received[-1].age_s >= 2.0
        eks.clear_faults()
        await wait_until(lambda: not here.received[-1].stale)
        assert here.received[-1].age_s < 2.0
    assert set(here.sequences) == {1}
    assert all(one.stale != other.stale for one, other in pairwise(here.received))


class Shifted(SystemClock):
    """The machine's clock, with another wall time."""

    def __init__(self, seconds: float) -> None:
        self.by = timedelta(seconds=seconds)

    def now(self) -> datetime:
        return super().now() + self.by


@pytest.mark.parametrize("seconds", [-61, 61], ids=["behind", "ahead"])
async def test_watch_ignores_the_difference_of_clocks(
    tmp_path: Path, eks: SimulatedEks, seconds: float
) -> None:
    """The gateway sends the age by its own clock."""
    update_id = eks.rollback("prod-1")
    async with run_gateway(tmp_path, eks, clock=Shifted(seconds)) as gateway:
        # Tokens have the machine's time.
        lifetime = timedelta(hours=1)
        token = gateway.issuer.token("viewer", ("viewers",), lifetime=lifetime, nbf=1, iat=1)
        options = {"credentials": lambda: token, "max_age": 50}
        async with program(gateway.address, gateway.issuer, update_id, **options) as here:
            await here.wait_for_status("InProgress")
            eks.set_update("prod-1", update_id, status="Cancelled")
            await asyncio.wait_for(here.task, 60)
    assert not any(known.stale for known in here.received)
    assert all(0 <= known.age_s < 50 for known in here.received)


async def test_watch_without_a_gateway_yields_unknown_and_waits(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1")
    async with TcpProxy(gateway.address) as proxy:
        proxy.refusing = True
        async with program(proxy.address, gateway.issuer, update_id, max_age=0.3) as here:
            await wait_until(lambda: bool(here.received))
            assert (here.received[0].stale, here.received[0].sequence) == (True, 0)
            proxy.refusing = False
            await here.wait_for_status("InProgress")
            assert not here.received[-1].stale


async def read_refusal(here: Program) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await asyncio.wait_for(here.task, 60)
    return error.value.code().name, ErrorDetails.of(error.value).reason


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param({"who": "outsider"}, ("PERMISSION_DENIED", "POLICY_DENIED"), id="may not"),
        pytest.param({"update": "0-0"}, ("NOT_FOUND", "EKS_NOT_FOUND"), id="no such update"),
        pytest.param({"update": "../.."}, ("INVALID_ARGUMENT", "REQUEST_INVALID"), id="no id at all"),
    ],
)
async def test_watch_raises_a_permanent_error_at_once(
    gateway: RunningGateway, caplog: pytest.LogCaptureFixture, options: dict[str, str], told: tuple[str, str]
) -> None:
    caplog.set_level("INFO", "eksgateway.client")
    update_id = gateway.eks.rollback("prod-1")
    asked: list[str] = []

    def credentials() -> str:
        asked.append("once more")
        group = () if options.get("who") else ("viewers",)
        return gateway.issuer.token("somebody", group)

    async with program(
        gateway.address, gateway.issuer, options.get("update", update_id), credentials=credentials
    ) as here:
        assert await read_refusal(here) == told
    assert told[0] not in caplog.text  # a loaded machine may lose a connection
    assert len(asked) == 1 + caplog.text.count("trying again")
    assert here.received == []


@pytest.mark.parametrize("good", [True, False], ids=["new ones are good", "new ones are no better"])
async def test_watch_asks_once_for_new_credentials_after_expiry(gateway: RunningGateway, good: bool) -> None:
    update_id = gateway.eks.rollback("prod-1")
    expired = gateway.issuer.token("viewer", ("viewers",), exp=1)
    tokens = [expired, gateway.issuer.token("viewer", ("viewers",)) if good else expired]

    async def credentials() -> str:
        return tokens.pop(0)

    async with program(gateway.address, gateway.issuer, update_id, credentials=credentials) as here:
        if good:
            await here.wait_for_status("InProgress")
        else:
            assert await read_refusal(here) == ("UNAUTHENTICATED", "CREDENTIALS_EXPIRED")
        assert tokens == []


async def test_watch_without_credentials_is_refused(gateway: RunningGateway) -> None:
    async with program(
        gateway.address, gateway.issuer, gateway.eks.rollback("prod-1"), credentials=None
    ) as here:
        assert await read_refusal(here) == ("UNAUTHENTICATED", "CREDENTIALS_MISSING")


async def test_watch_starts_anew_after_a_refused_resume_token(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1")
    async with program(gateway.address, gateway.issuer, update_id, resume_token="from another age") as here:
        await here.wait_for_status("InProgress")
        assert here.sequences == [1]


async def test_watch_waits_for_the_retry_delay_of_overloaded(tmp_path: Path, eks: SimulatedEks) -> None:
    update_id = eks.rollback("prod-1")
    async with run_gateway(tmp_path, eks, limits={"watches_per_caller": 1}) as gateway:
        first = gateway.watch("prod-1", update_id, gateway.viewer)
        await first.read()
        async with program(gateway.address, gateway.issuer, update_id, max_age=0.3) as here:
            await wait_until(lambda: bool(here.received))
            assert here.received[0].sequence == 0
            first.cancel()
            await here.wait_for_status("InProgress")


async def test_watch_releases_the_stream_when_iteration_stops(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("prod-1")
    cluster = update_pb2.ClusterRef(name="prod-1", region="us-east-1")
    token = gateway.issuer.token("viewer", ("viewers",))
    watching = client.watch(gateway.channel, cluster, update_id, credentials=lambda: token)
    async with aclosing(watching):
        async for known in watching:
            assert known.update.status == "InProgress"
            assert gateway.gateway.watches.watchers == 1
            break
    await wait_until(lambda: not gateway.gateway.watches.watchers)


async def cancel_update(gateway: RunningGateway, update_id: str, **options: Any) -> cpb.Cancellation:
    token = gateway.issuer.token("oncall", ("oncall",))
    options = {"credentials": lambda: token, "timing": QUICK, **options}
    return await client.cancel(gateway.channel, "staging-1", update_id, **options)


async def test_cancel_returns_the_cancellation(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("staging-1")
    told = await cancel_update(gateway, update_id, reason="bad AMI", ticket="OPS-1", request_id="mine")
    assert (told.request_id, told.reason, told.ticket) == ("mine", "bad AMI", "OPS-1")
    assert told.phase == cpb.CANCELLATION_PHASE_CANCELLING


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(
            lambda gateway: gateway.eks.fault("CancelUpdate", drop="after", times=1), id="the answer is lost"
        ),
        pytest.param(
            lambda gateway: gateway.eks.fault("DescribeCluster", code="ServerException", status=500, times=2),
            id="EKS is down for a while",
        ),
    ],
)
async def test_cancel_uses_one_request_id_for_all_attempts(
    gateway: RunningGateway, break_it: Callable[[RunningGateway], None]
) -> None:
    """One effect and one record."""
    update_id = gateway.eks.rollback("staging-1")
    break_it(gateway)
    told = await cancel_update(gateway, update_id)
    assert told.phase == cpb.CANCELLATION_PHASE_CANCELLING
    assert len(gateway.eks.calls("CancelUpdate")) == 1


async def test_cancel_raises_the_last_error_after_its_timeout(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("staging-1")
    gateway.eks.fault("DescribeCluster", code="ServerException", status=500, times=10_000)
    begun = time.monotonic()
    refusal = await expect_refusal(cancel_update(gateway, update_id, timeout=3))
    assert refusal.reason == "EKS_UNAVAILABLE"
    assert time.monotonic() - begun >= 2
    assert len(gateway.eks.calls("DescribeCluster")) >= 3


async def test_cancel_waits_for_the_retry_delay_of_overloaded(
    tmp_path: Path, eks: SimulatedEks, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "eksgateway.client")
    gate = Gate()
    limits = {"calls_per_caller": 1}
    async with run_gateway(
        tmp_path, eks, limits=limits, wrap_eks=add_hooks(describe_cluster=gate)
    ) as gateway:
        update_id = eks.rollback("staging-1")
        first = asyncio.create_task(cancel_update(gateway, update_id))
        await wait_until(lambda: gate.entered == 1)
        begun = time.monotonic()
        second = asyncio.create_task(cancel_update(gateway, update_id))
        await wait_until(lambda: "Too many calls" in caplog.text)
        gate.open()
        for task in (first, second):
            assert (await task).phase == cpb.CANCELLATION_PHASE_CANCELLING
        assert time.monotonic() - begun >= 1


async def test_cancel_raises_a_refusal_at_once(gateway: RunningGateway) -> None:
    update_id = gateway.eks.rollback("staging-1", node_phase_s=0)
    refusal = await expect_refusal(cancel_update(gateway, update_id))
    assert refusal.metadata["phase"] == "TOO_LATE"
    assert len(gateway.eks.calls("CancelUpdate")) == 1
